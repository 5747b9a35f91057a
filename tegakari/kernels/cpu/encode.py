"""Sparse encode on the CPU: a library GEMM per chunk of rows into a reused buffer, then one compiled pass over it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from tegakari.kernels.cpu.ranges import ChunkPass
from tegakari.kernels.input_norm import input_factors
from tegakari.kernels.reference import compressed
from tegakari.kernels.torch_only import joined
from tegakari.kernels.types import Encoded, EncodeInputs, Rows
from tegakari.kernels.validation import refuse_non_finite

CHUNK = 1024
"""Rows per GEMM. Measured: 512 to 2048 cost within 5 % of all rows at once, 256 costs a tenth more."""
SINGLE_THREAD_PRODUCTS = 2**20
"""Products up to which one thread is faster than starting several."""


class _Buffers(threading.local):
    """Buffers of one thread, kept between calls: the page faults of a new 40 MB cost more than the pass over it."""

    def __init__(self) -> None:
        self.product = torch.empty(0)
        self.weight = torch.empty(0)

    def product_of(self, rows: int, d_sae: int) -> Tensor:
        """Uninitialized [rows, d_sae] float32."""
        if self.product.numel() < rows * d_sae:
            self.product = torch.empty(rows * d_sae)
        return self.product[: rows * d_sae].view(rows, d_sae)

    def float_of(self, weight: Tensor) -> Tensor:
        """Copy of a weight in float32."""
        if self.weight.numel() < weight.numel():
            self.weight = torch.empty(weight.numel())
        return self.weight[: weight.numel()].view_as(weight).copy_(weight)


_buffers = _Buffers()


def cpu_encode(inputs: EncodeInputs) -> Encoded:
    """Sparse encode in chunks of rows on `torch.get_num_threads()` threads. See `tegakari.kernels.encode`."""
    residual, encoder, offsets, rows, floor, ordered = inputs
    positions, d_sae = residual.shape[0], encoder.weight.shape[1]
    rounded = encoder.weight.dtype
    weight = encoder.weight.detach()
    if rounded != torch.float32:
        # On a CPU torch.mm of bfloat16 rounds its output too, and a large mean would leave the activations no digits.
        weight = _buffers.float_of(weight)
    threads = torch.get_num_threads() if min(positions, CHUNK) * d_sae > SINGLE_THREAD_PRODUCTS else 1
    with ThreadPoolExecutor(threads) as pool:
        chunk_pass = ChunkPass(encoder, offsets, floor, threads, pool.map if threads > 1 else map)
        chunks: list[Rows] = []
        for first in range(0, positions, CHUNK):
            rows_of_chunk = residual[first : first + CHUNK]
            chunk = rows_of_chunk.to(rounded).float()
            factors = input_factors(rows_of_chunk, encoder)
            if factors is not None:  # of the rows and not of their products, which are many more
                chunk = chunk * factors[:, None]
            product = torch.mm(chunk, weight, out=_buffers.product_of(len(chunk), d_sae))
            chunk_rows = chunk_pass.add(product, first, pairs=rows == "all")
            if not chunk_pass.finite:
                refuse_non_finite(residual, encoder)
            if chunk_rows is not None:
                chunks.append(chunk_rows)
        survivors = chunk_pass.survivors(ordered=ordered)
    pooled = chunk_pass.pooled
    selected = compressed(pooled.last) if rows == "last" else joined(chunks) if rows == "all" else None
    return Encoded(selected, pooled, chunk_pass.columns, survivors)
