"""Every path of encode against an oracle that shares no code with it."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tegakari.kernels import Encoded
from tegakari.kernels.gpu.encode import Capacity
from tegakari.kernels.reference import sorted_survivors
from tests.support.kernel_cases import KINDS, PATHS, Case, dense_of, exact_case
from tests.support.kernel_oracle import expected

DTYPES = (torch.float32, torch.bfloat16)


def assert_exact(result: Encoded, case: Case, rows: str, floor: torch.Tensor | None) -> None:
    """Assert equality, except for the last bit of the mean, which is a division."""
    oracle = expected(case.residual, case.encoder, case.offsets, floor)
    d_sae = case.encoder.weight.shape[1]
    for name in ("last", "max"):
        np.testing.assert_array_equal(getattr(result.pooled, name).cpu(), getattr(oracle, name), err_msg=name)
    np.testing.assert_allclose(result.pooled.mean.cpu(), oracle.mean, rtol=1e-6)
    assert [table.dtype for table in result.pooled] == [torch.float32] * 3
    assert result.columns.count.dtype == torch.int64
    assert result.columns.total.dtype == torch.float64
    assert result.columns.maximum.dtype == torch.float32
    for name in ("count", "total", "maximum"):
        np.testing.assert_array_equal(getattr(result.columns, name).cpu(), getattr(oracle, name), err_msg=name)
    if rows == "none":
        assert result.rows is None
    else:
        assert result.rows is not None
        np.testing.assert_array_equal(dense_of(result.rows, d_sae), oracle.last if rows == "last" else oracle.dense)
    if floor is None:
        assert result.survivors is None
    else:
        assert result.survivors is not None
        survivors = result.survivors.trimmed()
        assert [column.dtype for column in survivors] == [torch.int32, torch.int32, torch.float32]
        assert list(zip(*(column.tolist() for column in survivors), strict=True)) == oracle.survivors


ALL_KINDS = [(path, kind, dtype) for path in PATHS for kind in KINDS for dtype in DTYPES]
QUICK = [
    (path, kind, dtype)
    for path, kind, dtype in ALL_KINDS
    # The interpreter is slow; gate and dtype are independent.
    if not path.startswith("triton") or (kind in ("relu", "topk")) == (dtype == torch.bfloat16)
]


@pytest.mark.parametrize(("path", "kind", "dtype"), QUICK)
def test_all_results_are_exact(path: str, kind: str, dtype: torch.dtype) -> None:
    """Documents of odd lengths, one of them 1; d_sae above one block of 128 and a prime."""
    case = exact_case(kind, dtype, [3, 1, 17, 2], 13, 139)
    result = PATHS[path](case.residual, case.encoder, case.offsets, rows="all", floor=case.floor)
    assert_exact(result, case, "all", case.floor)


@pytest.mark.parametrize("floor", [True, False], ids=["floor", "no floor"])
@pytest.mark.parametrize("rows", ["last", "none"])
@pytest.mark.parametrize("path", PATHS)
def test_rows_and_survivors_are_optional(path: str, rows: str, floor: bool) -> None:
    case = exact_case("jumprelu", torch.float32, [2, 5], 7, 33, seed=1)
    selected_floor = case.floor if floor else None
    result = PATHS[path](case.residual, case.encoder, case.offsets, rows=rows, floor=selected_floor)
    assert_exact(result, case, rows, selected_floor)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", PATHS)
def test_one_position_one_feature(path: str, kind: str) -> None:
    case = exact_case(kind, torch.float32, [1], 1, 1, seed=3)
    result = PATHS[path](case.residual, case.encoder, case.offsets, rows="all", floor=case.floor)
    assert_exact(result, case, "all", case.floor)


@pytest.mark.parametrize("kind", ["jumprelu", "topk", "gated"])
@pytest.mark.parametrize("path", PATHS)
def test_documents_across_chunks(path: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 5 rows: one document spans three of them, and some chunks hold several documents."""
    for module in ("cpu.encode", "gpu.encode", "torch_only"):
        monkeypatch.setattr(f"tegakari.kernels.{module}.CHUNK", 5)
    case = exact_case(kind, torch.float32, [1, 2, 11, 1, 1, 4], 6, 40, seed=2)
    result = PATHS[path](case.residual, case.encoder, case.offsets, rows="all", floor=case.floor)
    assert_exact(result, case, "all", case.floor)


@pytest.mark.parametrize("shift", [-1000.0, 200.0], ids=["none active", "all active"])
@pytest.mark.parametrize("path", PATHS)
def test_no_feature_or_every_feature_active(path: str, shift: float) -> None:
    case = exact_case("relu", torch.float32, [4, 1, 3], 5, 37)
    case = case._replace(encoder=case.encoder._replace(bias=case.encoder.bias + shift), floor=case.floor * 0)
    result = PATHS[path](case.residual, case.encoder, case.offsets, rows="all", floor=case.floor)
    assert_exact(result, case, "all", case.floor)
    active = int(result.columns.count.sum())
    assert active == (0 if shift < 0 else 8 * 37)


@pytest.mark.parametrize("k", [1, 2, 36, 37])
@pytest.mark.parametrize("path", PATHS)
def test_top_k_gives_ties_to_the_lower_feature(path: str, k: int) -> None:
    """All features have the same weights, so all entries of a row tie."""
    case = exact_case("relu", torch.float32, [3, 2], 5, 37, seed=5)
    encoder = case.encoder._replace(weight=torch.ones(5, 37), bias=torch.zeros(37), k=k)
    case = case._replace(encoder=encoder)
    result = PATHS[path](case.residual, encoder, case.offsets, rows="all")
    assert_exact(result, case, "all", None)
    assert result.columns.count.cpu().tolist() == [int((case.residual.sum(1) > 0).sum())] * k + [0] * (37 - k)


@pytest.mark.parametrize("path", ["triton"])
def test_results_beyond_the_buffers_are_computed_again(path: str) -> None:
    """Buffers with room for a tenth: the sizes are correct, and no entry is lost."""
    case = exact_case("relu", torch.float32, [3, 5], 6, 40, seed=4)
    small = Capacity(pairs=10, survivors=7)
    result = PATHS[path](case.residual, case.encoder, case.offsets, rows="all", floor=case.floor, capacity=small)
    assert result.rows is not None
    assert result.survivors is not None
    assert len(result.rows.feature) == 10 < int(result.rows.indptr[-1])
    assert len(result.survivors.feature) == 7
    assert_exact(result, case, "all", case.floor)


@pytest.mark.parametrize("path", ["triton"])
def test_deferred_results_do_not_keep_scratch(path: str) -> None:
    """A forward pass keeps the results of all its layers, and must not keep a chunk of products per layer."""
    case = exact_case("relu", torch.float32, [3, 5], 6, 40)
    deferred = PATHS[path](case.residual, case.encoder, case.offsets, rows="all", floor=case.floor)
    gc.collect()
    tensors = [item for item in gc.get_objects() if issubclass(type(item), torch.Tensor)]
    assert [tensor.shape for tensor in tensors if tensor.shape == (8, 40)] == []
    assert deferred.rows is not None


@given(
    kind=st.sampled_from(KINDS),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    d_sae=st.integers(1, 100),
    chunk=st.integers(1, 12),
    threads=st.integers(1, 5),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=25, deadline=None)
def test_any_chunks_and_threads_on_the_cpu(
    kind: str, lengths: list[int], d_sae: int, chunk: int, threads: int, seed: int
) -> None:
    case = exact_case(kind, torch.float32, lengths, 5, d_sae, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tegakari.kernels.cpu.encode.CHUNK", chunk)
        patch.setattr("tegakari.kernels.cpu.encode.SINGLE_THREAD_PRODUCTS", 0)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        result = PATHS["numba"](case.residual, case.encoder, case.offsets, rows="all", floor=case.floor)
    assert_exact(result, case, "all", case.floor)


@pytest.mark.parametrize("path", [name for name in PATHS if name != "reference"])
def test_random_numbers_agree_with_the_reference(path: str) -> None:
    """Sums in another order differ in the last bits alone. ReLU has no jump at which these would matter."""
    torch.manual_seed(0)
    lengths, d_model, d_sae = [30, 1, 9], 96, 150
    case = exact_case("relu", torch.float32, lengths, d_model, d_sae)
    encoder = case.encoder._replace(weight=torch.randn(d_model, d_sae) / 10, bias=torch.randn(d_sae))
    residual = torch.randn(sum(lengths), d_model)
    result = PATHS[path](residual, encoder, case.offsets, rows="all")
    oracle = PATHS["reference"](residual, encoder, case.offsets, rows="all")
    assert oracle.rows is not None
    assert result.rows is not None
    tables = [(dense_of(result.rows, d_sae), dense_of(oracle.rows, d_sae))]
    tables += zip(result.pooled, oracle.pooled, strict=True)
    tables += [(result.columns.total, oracle.columns.total)]
    for actual, reference in tables:
        torch.testing.assert_close(actual.cpu(), reference, rtol=1e-4, atol=1e-5)


def test_the_reference_agrees_with_float64_on_random_numbers() -> None:
    torch.manual_seed(1)
    case = exact_case("relu", torch.float32, [20, 3], 64, 90)
    case = case._replace(
        residual=torch.randn(23, 64), encoder=case.encoder._replace(weight=torch.randn(64, 90), bias=torch.randn(90))
    )
    result = PATHS["reference"](*case[:3], rows="all")
    oracle = expected(*case[:3])
    assert result.rows is not None
    np.testing.assert_allclose(dense_of(result.rows, 90), oracle.dense, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(result.pooled.mean, oracle.mean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("path", ["numba", "torch"])
def test_bfloat16_is_rounding_of_the_operands_alone(path: str) -> None:
    """Products are summed and kept in float32: only the operands lose bits."""
    torch.manual_seed(2)
    residual, weight = torch.randn(40, 64), torch.randn(64, 70)
    case = exact_case("relu", torch.bfloat16, [40], 64, 70)
    encoder = case.encoder._replace(weight=weight.bfloat16())
    result = PATHS[path](residual, encoder, case.offsets)
    oracle = expected(residual, encoder, case.offsets)
    np.testing.assert_allclose(result.pooled.max, oracle.max, rtol=1e-4, atol=1e-3)
    flips = ((result.pooled.last > 0).numpy() != (oracle.last > 0)).mean()
    assert flips < 0.02


def test_survivors_are_sorted_from_any_order() -> None:
    """Programs of a GPU append in an order of their own, which the interpreter, one program after another, cannot show."""
    case = exact_case("relu", torch.float32, [30, 20], 6, 40, seed=4)  # with many equal activations
    survivors = PATHS["reference"](case.residual, case.encoder, case.offsets, floor=case.floor).survivors
    assert survivors is not None
    shuffle = torch.randperm(len(survivors.feature), generator=torch.Generator().manual_seed(0))
    restored = sorted_survivors(*(column[shuffle] for column in survivors))
    assert all(map(torch.equal, restored, survivors))
    assert restored.feature.unique().numel() < len(restored.feature)
