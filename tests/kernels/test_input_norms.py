"""Per-token norms of the input: every path against the oracle, and nothing of them where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tegakari.kernels import Encoded, Encoder, add_to_tally, finish_tally, new_tally, token_statistics
from tegakari.kernels.types import TallyBatch
from tests.support.kernel_cases import KINDS, PATHS, dense_of, exact_case
from tests.support.kernel_oracle import Expected, expected

LENGTHS, D_MODEL, D_SAE = [3, 1, 17, 2], 13, 139
NORMS = [("constant_norm", False), ("constant_norm", True), ("layer_norm", True)]


def normed_case(kind: str, norm: str, centred: bool) -> tuple[torch.Tensor, Encoder, torch.Tensor, torch.Tensor]:
    """Residuals of very different norms and a mean that is not 0, as real ones are."""
    case = exact_case(kind, torch.float32, LENGTHS, D_MODEL, D_SAE)
    random = torch.Generator().manual_seed(7)
    sizes = torch.exp(torch.randn(sum(LENGTHS), 1, generator=random) * 2)
    residual = (torch.randn(sum(LENGTHS), D_MODEL, generator=random) + 0.7) * sizes
    weight = torch.randn(D_MODEL, D_SAE, generator=random)
    encoder = case.encoder._replace(
        weight=weight - weight.mean(0) if centred else weight,
        bias=torch.randn(D_SAE, generator=random),
        input_norm=norm,
        centred=centred,
    )
    return residual, encoder, case.offsets, torch.rand(D_SAE, generator=random) * 3


def assert_close(result: Encoded, oracle: Expected) -> None:
    assert result.rows is not None
    assert result.survivors is not None
    np.testing.assert_allclose(dense_of(result.rows, D_SAE), oracle.dense, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(result.pooled.mean.cpu(), oracle.mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(result.columns.count.cpu(), oracle.count)
    survivors = result.survivors.trimmed()
    assert [(f, p) for f, p, _ in zip(*(c.tolist() for c in survivors), strict=True)] == [
        (f, p) for f, p, _ in oracle.survivors
    ]


ALL = [(path, kind, norm) for path in PATHS for kind in KINDS for norm in NORMS]
QUICK = [
    (path, kind, norm)
    for path, kind, norm in ALL
    # The interpreter is slow; the kernels see a factor and not which norm it is of.
    if path != "triton" or norm == NORMS[KINDS.index(kind) % len(NORMS)]
]


@pytest.mark.parametrize(("path", "kind", "norm_and_mean"), QUICK)
def test_every_path_normalizes_each_position(path: str, kind: str, norm_and_mean: tuple[str, bool]) -> None:
    norm, centred = norm_and_mean
    residual, encoder, offsets, floor = normed_case(kind, norm, centred)
    result = PATHS[path](residual, encoder, offsets, rows="all", floor=floor)
    oracle = expected(residual, encoder, offsets, floor)
    assert_close(result, oracle)
    plain = expected(residual, encoder._replace(input_norm="none"), offsets)
    assert not np.array_equal(plain.count, oracle.count)  # the norm decides who is active


@pytest.mark.parametrize("path", PATHS)
def test_factors_belong_to_the_rows_of_each_chunk(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cpu.encode", "gpu.encode", "torch_only"):
        monkeypatch.setattr(f"tegakari.kernels.{module}.CHUNK", 5)
    residual, encoder, offsets, floor = normed_case("topk", "layer_norm", True)
    assert_close(
        PATHS[path](residual, encoder, offsets, rows="all", floor=floor), expected(residual, encoder, offsets, floor)
    )


@pytest.mark.parametrize("path", PATHS)
def test_a_bfloat16_encoder_takes_the_factor_from_the_residual(path: str) -> None:
    """The residual keeps its digits for the norm; the product is of rounded operands and not rounded again."""
    residual, encoder, offsets, floor = normed_case("relu", "constant_norm", False)
    encoder = encoder._replace(weight=encoder.weight.bfloat16())
    result = PATHS[path](residual, encoder, offsets, rows="all", floor=floor)
    oracle = expected(residual, encoder, offsets, floor)
    assert result.rows is not None
    np.testing.assert_allclose(dense_of(result.rows, D_SAE), oracle.dense, rtol=1e-4, atol=1e-4)


def test_a_tally_normalizes() -> None:
    residual, encoder, offsets, floor = normed_case("jumprelu", "layer_norm", True)
    tally = new_tally(encoder, len(LENGTHS), 10**5)
    add_to_tally(tally, residual, encoder, TallyBatch(offsets.tolist(), offsets, 0, 0), floor)
    oracle = expected(residual, encoder, offsets, floor)
    np.testing.assert_array_equal(finish_tally(tally).active, oracle.count)
    np.testing.assert_allclose(tally.pooled.max, oracle.max, rtol=1e-4, atol=1e-4)


def test_statistics_of_zeros_are_finite() -> None:
    for norm in ("constant_norm", "layer_norm"):
        statistics = token_statistics(torch.zeros(2, 8), norm, centred=False)
        assert all(values.isfinite().all() for values in statistics)
        assert not (statistics.factor[:, None] * torch.zeros(2, 8)).any()
    assert not token_statistics(torch.full((1, 8), 3.0), "layer_norm", centred=True).size.any()
