"""Sparse encode on a GPU without a host synchronization: two ways to compute products, one way to the results.

`gemm`: the library's GEMM into a chunk buffer, which `pool_kernel` reads once. `fused`: `fused_kernel` keeps the
products on the chip and writes packed rows, which `pool_kernel` reads instead. Then `place_kernel` moves the active
pairs to CSR and to the list of survivors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from tegakari.kernels.gpu.deferred import CapacityRows, CapacitySurvivors, Flags
from tegakari.kernels.gpu.fused import fused_kernel
from tegakari.kernels.gpu.packing import BLOCK, INTERPRETED, SEGMENT
from tegakari.kernels.gpu.pool import place_kernel, pool_kernel
from tegakari.kernels.gpu.top_k import cut_kernel
from tegakari.kernels.reference import compressed
from tegakari.kernels.types import Columns, Encoded, EncodeInputs, Pooled, Rows, Survivors

PACKING = {"SEGMENT": SEGMENT, "INTERPRETED": INTERPRETED}
CHUNK = 4096
"""Rows per GEMM: 151 MB of products at d_sae = 9216."""
POOL = {"ROWS": 16, "num_warps": 4}
POOL_STAGES = {False: 3, True: 1}
"""Tiles fetched ahead, by whether rows are packed: values of packed rows have to wait for their bits."""
PLACE = {"ROWS": 16, "num_warps": 4}
CUT = {"ROWS": 16, "BLOCK": 128, "num_warps": 4}
FUSED = {
    torch.bfloat16: {
        "ROWS": 128, "WIDTH": 128, "DEPTH": 64, "GROUP": 8, "SPLIT": 2, "num_warps": 8, "num_stages": 3,
    },
    torch.float32: {
        "ROWS": 64, "WIDTH": 64, "DEPTH": 32, "GROUP": 8, "SPLIT": 1, "num_warps": 8, "num_stages": 2,
    },
}  # fmt: skip
"""Tiles of the fused kernel. Full float32 has no matrix unit and would spill the larger ones."""


def _launch(kernel: Any, programs: int, *arguments: object, **constants: object) -> None:
    # Any: to a type checker a kernel is the Python function, which has fewer parameters.
    kernel[(programs,)](*arguments, **constants)


def _multiply(rows: Tensor, weight: Tensor, product: Tensor) -> None:
    """Write rows [n, d_model] times weight [d_model, d_sae] to product [n, d_sae] float32, with no rounding between.

    torch.mm of bfloat16 rounds what it summed in float32, unless it is told otherwise, which only CUDA understands;
    elsewhere (the interpreter, tensors without values) the operands are widened.
    """
    if rows.is_cuda and rows.dtype != torch.float32:
        torch.mm(rows, weight, out_dtype=torch.float32, out=product)
    else:
        torch.mm(rows.float(), weight.float(), out=product)


class Capacity(NamedTuple):
    """Numbers of entries of the output buffers."""

    pairs: int
    survivors: int


def capacity_of(positions: int, d_sae: int) -> Capacity:
    """Capacity for 12 % of all entries as pairs and 6 % as survivors, or for all entries of a small batch.

    About 5 % of the entries of wide SAEs are active; a tenth of them pass a floor that has risen.
    """
    entries = positions * d_sae
    return Capacity(min(entries, max(2**16, entries // 8)), min(entries, max(2**16, entries // 16)))


def gpu_encode(inputs: EncodeInputs, *, fused: bool = False, capacity: Capacity | None = None) -> Encoded:
    """Sparse encode by Triton kernels. See `tegakari.kernels.encode`.

    Args:
        inputs: on the GPU, or on the CPU where Triton interprets its kernels.
        fused: compute products in `fused_kernel` instead of the library. Ignored for TopK, which needs whole rows.
        capacity: of the output buffers. Results that do not fit are computed again when the host reads them.
    """
    call = _Call(inputs, fused and inputs.encoder.k is None, capacity)
    positions = len(inputs.residual)
    for first in range(0, positions, CHUNK):
        call.add(first, min(CHUNK, positions - first))
    return call.result()


class _Call:
    """Tables and scratch of one call, to which chunks of rows are added in order."""

    def __init__(self, inputs: EncodeInputs, fused: bool, capacity: Capacity | None) -> None:
        residual, encoder, offsets, rows, floor = inputs
        pairs = rows == "all"
        self.inputs = inputs
        self.encoder = encoder
        self.device = device = residual.device
        self.residual = residual.to(encoder.weight.dtype).contiguous()
        self.offsets = offsets.to(device, non_blocking=True).contiguous()
        self.pairs, self.floor, self.fused = pairs, floor, fused
        positions, d_sae = len(residual), encoder.weight.shape[1]
        documents = len(offsets) - 1
        self.documents, self.d_sae, self.blocks = documents, d_sae, triton.cdiv(d_sae, BLOCK)
        self.capacity = capacity or capacity_of(positions, d_sae)
        self.gated = encoder.gate_scale is not None
        gates = encoder.gate_scale, encoder.bias, encoder.gate_bias, encoder.threshold
        self.gates = tuple((encoder.bias if vector is None else vector).contiguous() for vector in gates)
        n = min(CHUNK, positions)
        packs = n if pairs or fused or floor is not None else 0
        self.product = self.empty(0 if fused else n, d_sae)
        self.bits = self.empty(packs, self.blocks * BLOCK // 32, dtype=torch.int32)
        self.values = self.empty(n if fused else 0, self.blocks * BLOCK)
        self.cut_value, self.cut_feature = self.empty(n), self.empty(n, dtype=torch.int32)
        self.pooled = Pooled(*(self.empty(documents, d_sae) for _ in range(3)))
        self.count = self.empty(documents, d_sae, dtype=torch.int32)
        self.flags = torch.zeros(documents, self.blocks, dtype=torch.int32, device=device)
        self.tile_flags: list[Tensor] = []
        pair_room = self.capacity.pairs if pairs else 0
        survivor_room = self.capacity.survivors if floor is not None else 0
        self.pair_buffers = self.empty(pair_room, dtype=torch.int32), self.empty(pair_room)
        self.survivors = Survivors(
            self.empty(survivor_room, dtype=torch.int32),
            self.empty(survivor_room, dtype=torch.int32),
            self.empty(survivor_room),
        )
        self.indptr: list[Tensor] = []
        self.n_pairs = self.n_survivors = torch.zeros((), dtype=torch.int64, device=device)

    def empty(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Uninitialized tensor on the call's device."""
        return torch.empty(shape, dtype=dtype, device=self.device)

    def add(self, first: int, n: int) -> None:
        """Encode rows first:first + n of the residual."""
        source = self.values if self.fused else self.product
        if self.fused:
            self.pack(first, n)
        else:
            _multiply(self.residual[first : first + n], self.encoder.weight, self.product[:n])
        if self.encoder.k is not None:
            _launch(
                cut_kernel, triton.cdiv(n, CUT["ROWS"]),
                self.product, self.gates[1], self.gates[3], self.cut_value, self.cut_feature, n, self.d_sae,
                self.encoder.k, FEATURE_BITS=self.d_sae.bit_length(), **CUT,
            )  # fmt: skip
        surviving = self.floor is not None
        pair_counts = self.empty(n if self.pairs else 0, self.blocks, dtype=torch.int32)
        survivor_counts = self.empty(n if surviving else 0, self.blocks, dtype=torch.int32)
        floor = self.gates[0] if self.floor is None else self.floor.contiguous()
        _launch(
            pool_kernel, self.documents * self.blocks,
            source, self.bits, *self.gates, self.cut_value, self.cut_feature, floor, self.offsets,
            *self.pooled, self.count, pair_counts, survivor_counts, self.flags,
            first, n, len(self.residual), self.documents, self.d_sae, self.blocks,
            PACKED=self.fused, GATED=self.gated, TOP_K=self.encoder.k is not None, PAIRS=self.pairs,
            SURVIVORS=surviving, STAGES=POOL_STAGES[self.fused], BLOCK=BLOCK, **PACKING, **POOL,
        )  # fmt: skip
        if not (self.pairs or surviving):
            return
        pair_starts, self.n_pairs = _starts(pair_counts, self.n_pairs)
        survivor_starts, self.n_survivors = _starts(survivor_counts, self.n_survivors)
        self.indptr.append(pair_starts[:, 0])
        _launch(
            place_kernel, self.blocks * triton.cdiv(n, PLACE["ROWS"]),
            source, self.bits, *self.gates[:3], floor, pair_starts, survivor_starts,
            *self.pair_buffers, *self.survivors, *self.capacity, first, n, self.d_sae, self.blocks,
            PACKED=self.fused, GATED=self.gated, PAIRS=self.pairs, SURVIVORS=surviving,
            BLOCK=BLOCK, **PACKING, **PLACE,
        )  # fmt: skip

    def pack(self, first: int, n: int) -> None:
        """Multiply, gate and pack a chunk in one kernel."""
        weight, chunk = self.encoder.weight, self.residual[first : first + n]
        shape = FUSED[weight.dtype]
        tiles = triton.cdiv(n, shape["ROWS"]) * triton.cdiv(self.blocks * BLOCK, shape["WIDTH"])
        self.tile_flags.append(self.empty(tiles, dtype=torch.int32))
        _launch(
            fused_kernel, tiles,
            chunk, weight, *self.gates, self.bits, self.values, self.tile_flags[-1],
            n, chunk.stride(0), weight.stride(0), weight.stride(1),
            padded=self.blocks * BLOCK, d_sae=self.d_sae, K=weight.shape[0],
            GATED=self.gated, **PACKING, **shape,
        )  # fmt: skip

    def result(self) -> Encoded:
        """Finish the tables. Sums of documents become means here, in one place for all chunks."""
        last, maximum, total = self.pooled
        columns = Columns(self.count.sum(0), total.sum(0, dtype=torch.float64), maximum.amax(0))
        total /= self.offsets.diff()[:, None]
        flags = Flags((self.flags, *self.tile_flags), self.inputs)
        # Deferred results must not refer to self, and so to its scratch.
        inputs, fused, capacity = self.inputs, self.fused, self.capacity

        def exact_rows(nnz: int) -> Rows:
            if inputs.rows == "last":
                return compressed(last)
            rows = gpu_encode(inputs, fused=fused, capacity=capacity._replace(pairs=nnz)).rows
            assert rows is not None
            return rows.trimmed()

        def exact_survivors(number: int) -> Survivors:
            room = capacity._replace(survivors=number)
            survivors = gpu_encode(inputs._replace(rows="none"), fused=fused, capacity=room).survivors
            assert survivors is not None
            return survivors.trimmed()

        rows = survivors = None
        if inputs.rows == "last":
            # `last` is dense and short: it is compressed when the host reads the rows.
            indptr = torch.nn.functional.pad((last > 0).sum(1).cumsum(0), (1, 0))
            rows = CapacityRows.of(Rows(indptr, *self.pair_buffers), flags, exact_rows)
        elif inputs.rows == "all":
            indptr = torch.cat([*self.indptr, self.n_pairs[None]])
            rows = CapacityRows.of(Rows(indptr, *self.pair_buffers), flags, exact_rows)
        if inputs.floor is not None:
            survivors = CapacitySurvivors.of(self.survivors, flags, self.n_survivors, exact_survivors)
        return Encoded(rows, Pooled(last, maximum, total), columns, survivors, flags)


def _starts(counts: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Start of each row and block in the output, int64 [n, B], and the number of entries so far."""
    if not counts.numel():
        return counts.long(), before
    ends = counts.flatten().cumsum(0, dtype=torch.int64) + before
    return (ends - counts.flatten()).view_as(counts), ends[-1]
