"""Inputs of encode, and the paths that have to agree on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from tegakari.kernels import Encoded, Encoder
from tegakari.kernels.cpu.encode import cpu_encode
from tegakari.kernels.gpu.encode import gpu_encode
from tegakari.kernels.reference import reference_encode
from tegakari.kernels.torch_only import torch_encode
from tegakari.kernels.types import EncodeInputs, RowSelection

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
"""Device of the Triton kernels: a GPU if there is one, else the CPU, where they are interpreted."""

KINDS = ("relu", "jumprelu", "topk", "gated")


class Case(NamedTuple):
    residual: Tensor
    encoder: Encoder
    offsets: Tensor
    floor: Tensor


@triton.jit
def _loop_kernel(out, n):
    for i in range(n):
        tl.store(out, i)


@cache
def _triton_loops() -> bool:
    kernel: Any = _loop_kernel
    try:
        kernel[(1,)](torch.zeros(1, dtype=torch.int32, device=DEVICE), 3)
    except triton.runtime.errors.InterpreterError as error:
        if "0-dimensional" not in str(error):
            raise
        return False
    return True


def needs_triton() -> None:
    """Skip with Triton 3.6 and numpy 2.4, whose interpreter cannot run loops."""
    if not _triton_loops():
        pytest.skip(f"the interpreter of Triton {triton.__version__} has no loops with this numpy")


def _on_host(path: Callable[..., Encoded]) -> Callable[..., Encoded]:
    """A path with the arguments of `tegakari.kernels.encode` and the path's own options."""

    def run(
        residual: Tensor,
        encoder: Encoder,
        offsets: Tensor,
        *,
        rows: RowSelection = "last",
        floor: Tensor | None = None,
        **options: Any,
    ) -> Encoded:
        return path(EncodeInputs(residual, encoder, offsets, rows, floor), **options)

    return run


def _on_device(path: Callable[..., Encoded]) -> Callable[..., Encoded]:
    """Like `_on_host`, with the tensors moved to DEVICE."""

    def run(residual, encoder, offsets, *, floor=None, **options) -> Encoded:
        needs_triton()
        moved = encoder._replace(**{k: v.to(DEVICE) for k, v in encoder._asdict().items() if isinstance(v, Tensor)})
        if floor is not None:
            floor = floor.to(DEVICE)
        return _on_host(path)(residual.to(DEVICE), moved, offsets.to(DEVICE), floor=floor, **options)

    return run


PATHS: dict[str, Callable[..., Encoded]] = {
    "reference": _on_host(reference_encode),
    "torch": _on_host(torch_encode),
    "numba": _on_host(cpu_encode),
    "triton": _on_device(gpu_encode),
}


def exact_case(kind: str, dtype: torch.dtype, lengths: list[int], d_model: int, d_sae: int, seed: int = 0) -> Case:
    """Small integers: products and sums are exact in bfloat16, so paths must agree to the last bit, with many ties."""
    random = torch.Generator().manual_seed(seed)

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=random).float()

    residual = integers(-3, 3, sum(lengths), d_model)
    encoder = Encoder(
        weight=integers(-2, 2, d_model, d_sae).to(dtype),
        bias=integers(-4, 2, d_sae),
        threshold=integers(0, 5, d_sae) if kind == "jumprelu" else torch.zeros(d_sae),
        k=min(3, d_sae) if kind == "topk" else None,
        gate_scale=integers(1, 4, d_sae) / 2 if kind == "gated" else None,
        gate_bias=integers(-3, 3, d_sae) if kind == "gated" else None,
    )
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return Case(residual.to(dtype), encoder, offsets, integers(-1, 9, d_sae))


def dense_of(rows, d_sae: int) -> Tensor:
    """Rows as a dense matrix; asserts that they are a well-formed CSR with features ascending."""
    rows = rows.trimmed()
    assert rows.indptr.dtype == torch.int64
    assert rows.feature.dtype == torch.int32
    assert rows.activation.dtype == torch.float32
    counts = rows.indptr.diff().cpu()
    assert int(rows.indptr[0]) == 0
    assert int(rows.indptr[-1]) == len(rows.feature) == len(rows.activation)
    row = torch.repeat_interleave(torch.arange(len(counts)), counts)
    entry = row * d_sae + rows.feature.cpu()
    assert bool((entry.diff() > 0).all())
    assert bool((rows.activation > 0).all())
    dense = torch.zeros(len(counts) * d_sae)
    dense[entry] = rows.activation.cpu()
    return dense.view(len(counts), d_sae)
