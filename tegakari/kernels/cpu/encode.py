"""Sparse encode on the CPU: a library GEMM of a chunk of rows into a reused buffer, then one compiled pass over it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import torch
from torch import Tensor

from tegakari.kernels.cpu.ranges import Pass
from tegakari.kernels.reference import compressed
from tegakari.kernels.torch_only import joined
from tegakari.kernels.types import Encoded, Encoder, Rows
from tegakari.kernels.validation import refuse_non_finite

CHUNK = 1024
"""Rows a GEMM. Measured: 512 to 2048 cost within 5 % of all rows at once, 256 costs a tenth more."""
ALONE = 2**20
"""Products up to which a pass is not worth starting threads for."""


class _Buffers(threading.local):
    """Scratch that outlives a call: a fresh 40 MB costs more in page faults than the pass over it."""

    def __init__(self) -> None:
        self.product = torch.empty(0)
        self.weight = torch.empty(0)

    def product_of(self, rows: int, d_sae: int) -> Tensor:
        if self.product.numel() < rows * d_sae:
            self.product = torch.empty(rows * d_sae)
        return self.product[: rows * d_sae].view(rows, d_sae)

    def float_of(self, weight: Tensor) -> Tensor:
        if self.weight.numel() < weight.numel():
            self.weight = torch.empty(weight.numel())
        return self.weight[: weight.numel()].view_as(weight).copy_(weight)


_buffers = _Buffers()


def encode(
    residual: Tensor,
    encoder: Encoder,
    offsets: Tensor,
    *,
    rows: Literal["last", "all", "none"] = "last",
    floor: Tensor | None = None,
) -> Encoded:
    """Sparse encode in chunks of rows on `torch.get_num_threads()` threads. See `tegakari.kernels.encode`."""
    positions, d_sae = residual.shape[0], encoder.weight.shape[1]
    rounded = encoder.weight.dtype
    weight = encoder.weight.detach()
    if rounded != torch.float32:
        # On a CPU torch.mm of bfloat16 rounds its output too: a residual's mean leaves no digits to its activations.
        weight = _buffers.float_of(weight)
    threads = torch.get_num_threads() if min(positions, CHUNK) * d_sae > ALONE else 1
    with ThreadPoolExecutor(threads) as pool:
        run = Pass(encoder, offsets, floor, threads, pool.map if threads > 1 else map)
        chunks: list[Rows] = []
        for first in range(0, positions, CHUNK):
            chunk = residual[first : first + CHUNK].to(rounded).float()
            product = torch.mm(chunk, weight, out=_buffers.product_of(len(chunk), d_sae))
            found = run.add(product, first, pairs=rows == "all")
            if not run.finite:
                refuse_non_finite(residual, encoder)
            if found is not None:
                chunks.append(found)
        survivors = run.survivors()
    wanted = compressed(run.pooled.last) if rows == "last" else joined(chunks) if rows == "all" else None
    return Encoded(wanted, run.pooled, run.columns, survivors)
