"""Every path of encode against an oracle that shares no code with it."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tegakari.kernels import Encoded, reference, torch_only
from tegakari.kernels.cpu import encode as host
from tegakari.kernels.gpu import encode as gpu
from tests.support.kernel_cases import KINDS, PATHS, Case, dense_of, exact_case
from tests.support.kernel_oracle import expected

DTYPES = (torch.float32, torch.bfloat16)


def assert_exact(found: Encoded, case: Case, rows: str, floor: torch.Tensor | None) -> None:
    """Everything equal, but for the mean's last bit: a division."""
    want = expected(case.residual, case.encoder, case.offsets, floor)
    d_sae = case.encoder.weight.shape[1]
    for name in ("last", "max"):
        np.testing.assert_array_equal(getattr(found.pooled, name).cpu(), getattr(want, name), err_msg=name)
    np.testing.assert_allclose(found.pooled.mean.cpu(), want.mean, rtol=1e-6)
    assert [table.dtype for table in found.pooled] == [torch.float32] * 3
    assert found.columns.count.dtype == torch.int64
    assert found.columns.total.dtype == torch.float64
    assert found.columns.maximum.dtype == torch.float32
    for name in ("count", "total", "maximum"):
        np.testing.assert_array_equal(getattr(found.columns, name).cpu(), getattr(want, name), err_msg=name)
    if rows == "none":
        assert found.rows is None
    else:
        assert found.rows is not None
        np.testing.assert_array_equal(dense_of(found.rows, d_sae), want.last if rows == "last" else want.dense)
    if floor is None:
        assert found.survivors is None
    else:
        assert found.survivors is not None
        survivors = found.survivors.trimmed()
        assert [column.dtype for column in survivors] == [torch.int32, torch.int32, torch.float32]
        assert list(zip(*(column.tolist() for column in survivors), strict=True)) == want.survivors


ALL_KINDS = [(path, kind, dtype) for path in PATHS for kind in KINDS for dtype in DTYPES]
QUICK = [
    (path, kind, dtype)
    for path, kind, dtype in ALL_KINDS
    # The interpreter is slow; the gate and the dtype do not know of each other.
    if not path.startswith("triton") or (kind in ("relu", "topk")) == (dtype == torch.bfloat16)
]


@pytest.mark.parametrize(("path", "kind", "dtype"), QUICK)
def test_everything_at_once(path: str, kind: str, dtype: torch.dtype) -> None:
    """Documents of odd lengths, of one row too; d_sae beyond one block of 128 and a multiple of nothing."""
    case = exact_case(kind, dtype, [3, 1, 17, 2], 13, 139)
    found = PATHS[path](case.residual, case.encoder, case.offsets, rows="all", floor=case.floor)
    assert_exact(found, case, "all", case.floor)


@pytest.mark.parametrize("floor", [True, False], ids=["floor", "no floor"])
@pytest.mark.parametrize("rows", ["last", "none"])
@pytest.mark.parametrize("path", PATHS)
def test_what_is_not_asked_for_is_not_made(path: str, rows: str, floor: bool) -> None:
    case = exact_case("jumprelu", torch.float32, [2, 5], 7, 33, seed=1)
    wanted = case.floor if floor else None
    found = PATHS[path](case.residual, case.encoder, case.offsets, rows=rows, floor=wanted)
    assert_exact(found, case, rows, wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", PATHS)
def test_one_position_one_feature(path: str, kind: str) -> None:
    case = exact_case(kind, torch.float32, [1], 1, 1, seed=3)
    found = PATHS[path](case.residual, case.encoder, case.offsets, rows="all", floor=case.floor)
    assert_exact(found, case, "all", case.floor)


@pytest.mark.parametrize("kind", ["jumprelu", "topk", "gated"])
@pytest.mark.parametrize("path", PATHS)
def test_documents_that_chunks_cut(path: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 5 rows: one document lies in three of them, and some chunks hold several documents."""
    for module in (host, gpu, torch_only):
        monkeypatch.setattr(module, "CHUNK", 5)
    case = exact_case(kind, torch.float32, [1, 2, 11, 1, 1, 4], 6, 40, seed=2)
    found = PATHS[path](case.residual, case.encoder, case.offsets, rows="all", floor=case.floor)
    assert_exact(found, case, "all", case.floor)


@pytest.mark.parametrize("shift", [-1000.0, 200.0], ids=["none active", "all active"])
@pytest.mark.parametrize("path", PATHS)
def test_extremes(path: str, shift: float) -> None:
    case = exact_case("relu", torch.float32, [4, 1, 3], 5, 37)
    case = case._replace(encoder=case.encoder._replace(bias=case.encoder.bias + shift), floor=case.floor * 0)
    found = PATHS[path](case.residual, case.encoder, case.offsets, rows="all", floor=case.floor)
    assert_exact(found, case, "all", case.floor)
    active = int(found.columns.count.sum())
    assert active == (0 if shift < 0 else 8 * 37)


@pytest.mark.parametrize("k", [1, 2, 36, 37])
@pytest.mark.parametrize("path", PATHS)
def test_top_k_gives_ties_to_the_lower_feature(path: str, k: int) -> None:
    """All features have the same weights, so a row is one large tie."""
    case = exact_case("relu", torch.float32, [3, 2], 5, 37, seed=5)
    encoder = case.encoder._replace(weight=torch.ones(5, 37), bias=torch.zeros(37), k=k)
    case = case._replace(encoder=encoder)
    found = PATHS[path](case.residual, encoder, case.offsets, rows="all")
    assert_exact(found, case, "all", None)
    assert found.columns.count.cpu().tolist() == [int((case.residual.sum(1) > 0).sum())] * k + [0] * (37 - k)


@pytest.mark.parametrize("path", ["triton-gemm", "triton-fused"])
def test_full_buffers_are_noticed_and_refilled(path: str) -> None:
    """Buffers with room for a tenth: the true sizes are known all the same, and nothing is lost."""
    case = exact_case("relu", torch.float32, [3, 5], 6, 40, seed=4)
    small = gpu.Capacity(pairs=10, survivors=7)
    found = PATHS[path](case.residual, case.encoder, case.offsets, rows="all", floor=case.floor, capacity=small)
    assert found.rows is not None
    assert found.survivors is not None
    assert len(found.rows.feature) == 10 < int(found.rows.indptr[-1])
    assert len(found.survivors.feature) == 7
    assert_exact(found, case, "all", case.floor)


@pytest.mark.parametrize("path", ["triton-gemm", "triton-fused"])
def test_results_that_wait_do_not_hold_scratch(path: str) -> None:
    """A forward pass keeps the results of all its layers, and must not keep a chunk of products for each."""
    case = exact_case("relu", torch.float32, [3, 5], 6, 40)
    waiting = PATHS[path](case.residual, case.encoder, case.offsets, rows="all", floor=case.floor)
    gc.collect()
    assert not [held for held in gc.get_objects() if isinstance(held, gpu._Run)]
    assert waiting.rows is not None


@given(
    kind=st.sampled_from(KINDS),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    d_sae=st.integers(1, 100),
    chunk=st.integers(1, 12),
    threads=st.integers(1, 5),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=25, deadline=None)
def test_any_shape_on_the_cpu(kind: str, lengths: list[int], d_sae: int, chunk: int, threads: int, seed: int) -> None:
    """However rows are cut into chunks and features into threads, the result is the same."""
    case = exact_case(kind, torch.float32, lengths, 5, d_sae, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "CHUNK", chunk)
        patch.setattr(host, "ALONE", 0)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        found = host.encode(case.residual, case.encoder, case.offsets, rows="all", floor=case.floor)
    assert_exact(found, case, "all", case.floor)


@pytest.mark.parametrize("path", [name for name in PATHS if name != "reference"])
def test_random_numbers_agree_with_the_reference(path: str) -> None:
    """Ordinary data: sums in another order differ in the last bits, no more. ReLU has no jump to fall off."""
    torch.manual_seed(0)
    lengths, d_model, d_sae = [30, 1, 9], 96, 150
    case = exact_case("relu", torch.float32, lengths, d_model, d_sae)
    encoder = case.encoder._replace(weight=torch.randn(d_model, d_sae) / 10, bias=torch.randn(d_sae))
    residual = torch.randn(sum(lengths), d_model)
    found = PATHS[path](residual, encoder, case.offsets, rows="all")
    want = reference.encode(residual, encoder, case.offsets, rows="all")
    assert want.rows is not None
    assert found.rows is not None
    tables = [(dense_of(found.rows, d_sae), dense_of(want.rows, d_sae))]
    tables += zip(found.pooled, want.pooled, strict=True)
    tables += [(found.columns.total, want.columns.total)]
    for mine, theirs in tables:
        torch.testing.assert_close(mine.cpu(), theirs, rtol=1e-4, atol=1e-5)


def test_the_reference_agrees_with_float64_on_random_numbers() -> None:
    torch.manual_seed(1)
    case = exact_case("relu", torch.float32, [20, 3], 64, 90)
    case = case._replace(
        residual=torch.randn(23, 64), encoder=case.encoder._replace(weight=torch.randn(64, 90), bias=torch.randn(90))
    )
    found = reference.encode(*case[:3], rows="all")
    want = expected(*case[:3])
    assert found.rows is not None
    np.testing.assert_allclose(dense_of(found.rows, 90), want.dense, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.pooled.mean, want.mean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("path", ["numba", "torch"])
def test_bfloat16_is_rounding_of_the_operands_alone(path: str) -> None:
    """Products are summed and kept in float32, so only the operands lose bits."""
    torch.manual_seed(2)
    residual, weight = torch.randn(40, 64), torch.randn(64, 70)
    case = exact_case("relu", torch.bfloat16, [40], 64, 70)
    encoder = case.encoder._replace(weight=weight.bfloat16())
    found = PATHS[path](residual, encoder, case.offsets)
    want = expected(residual, encoder, case.offsets)
    np.testing.assert_allclose(found.pooled.max, want.max, rtol=1e-4, atol=1e-3)
    flips = ((found.pooled.last > 0).numpy() != (want.last > 0)).mean()
    assert flips < 0.02
