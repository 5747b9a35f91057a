"""Sparse encode on a GPU: the library's GEMM writes a chunk of products, and one kernel reads it once.

The host waits for nothing but the offsets of `encode`, where they are on the GPU.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tegakari.kernels.gpu.append import append_kernel, centre_kernel
from tegakari.kernels.gpu.deferred import CapacityRows, CapacitySurvivors, Flags
from tegakari.kernels.gpu.gate import BLOCK
from tegakari.kernels.gpu.launch import launch
from tegakari.kernels.gpu.place import place_kernel
from tegakari.kernels.gpu.pool import join_kernel, tile_kernel
from tegakari.kernels.gpu.tiles import Chunk, plan
from tegakari.kernels.gpu.top_k import select_kernel
from tegakari.kernels.input_norm import input_factors
from tegakari.kernels.reference import compressed
from tegakari.kernels.types import (
    CandidateBuffer,
    Columns,
    Drawn,
    Encoded,
    EncodeInputs,
    Encoder,
    Rows,
    Survivors,
    Tally,
    TallyBatch,
    empty_tally,
)
from tegakari.kernels.validation import check_offsets

CHUNK = 8192
"""Rows per GEMM: 302 MB of products at d_sae = 9216. Documents are not cut, so a longer one is a chunk of its own."""
TILE = {"ROWS": 8, "num_warps": 1}
"""Rows of a tile that are read at a time."""
JOIN = {"num_warps": 1}
CENTRE = {"num_warps": 1}
APPEND = {"num_warps": 1}
PLACE = {"ROWS": 4, "num_warps": 4}
SELECT = {"ROWS": 1, "num_warps": 1}
"""Rows of products per program of TopK, where a row has at most MIN_CLASSES classes of features."""
MIN_CLASSES = 256


def _parts(length: int, part: int) -> int:
    """Number of parts that cover a length."""
    return -(-length // part)


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


def gpu_tally(
    residual: Tensor,
    encoder: Encoder,
    batch: TallyBatch,
    floor: Tensor,
    ordinary: Tensor | None,
    tally: Tally,
    drawn: Drawn | None = None,
) -> None:
    """Add a batch to a tally. See `tegakari.kernels.add_to_tally`."""
    gates = _gates(encoder)
    factors = input_factors(residual, encoder)
    residual = residual.to(encoder.weight.dtype).contiguous()
    if batch.chunks is None:
        batch.chunks = plan(batch.ends, CHUNK, residual.device)
    for chunk in batch.chunks:
        product = _products(residual, encoder, chunk)
        place = batch.document + chunk.document, batch.position + chunk.first
        _tally_chunk(
            product, encoder, gates, factors, chunk, place, floor, ordinary, tally, drawn=drawn, apart=batch.apart
        )


def gpu_encode(inputs: EncodeInputs, *, capacity: Capacity | None = None) -> Encoded:
    """Sparse encode by Triton kernels. See `tegakari.kernels.encode`.

    Args:
        inputs: on the GPU, or on the CPU where Triton interprets its kernels.
        capacity: of the output buffers. Results that do not fit are computed again when the host reads them.
    """
    residual, encoder, offsets, rows, floor, _ = inputs
    positions, d_sae, device = len(residual), encoder.weight.shape[1], residual.device
    documents = len(offsets) - 1
    capacity = capacity or capacity_of(positions, d_sae)
    gates, blocks = _gates(encoder), _parts(d_sae, BLOCK)
    factors = input_factors(residual, encoder)
    operand = residual.to(encoder.weight.dtype).contiguous()
    offsets = offsets.cpu()
    check_offsets(offsets, positions)
    candidates = CandidateBuffer(capacity.survivors if floor is not None else 0, device)
    tally = empty_tally(documents, d_sae, device, candidates)
    pair_room = capacity.pairs if rows == "all" else 0
    pair_feature = torch.empty(pair_room, dtype=torch.int32, device=device)
    pair_activation = torch.empty(pair_room, device=device)
    indptr: list[Tensor] = []
    n_pairs = torch.zeros((), dtype=torch.int64, device=device)
    for chunk in plan(offsets.tolist(), CHUNK, device):
        product = _products(operand, encoder, chunk)
        pairs = torch.empty(chunk.rows, blocks, dtype=torch.int32, device=device) if rows == "all" else None
        place = chunk.document, chunk.first
        cuts = _tally_chunk(product, encoder, gates, factors, chunk, place, floor, None, tally, pairs=pairs)
        if pairs is None:
            continue
        row_ends = pairs.flatten().cumsum(0, dtype=torch.int64) + n_pairs
        starts = (row_ends - pairs.flatten()).view_as(pairs)
        n_pairs = row_ends[-1]
        indptr.append(starts[:, 0])
        launch(
            place_kernel, blocks * _parts(chunk.rows, PLACE["ROWS"]),
            product, *gates, _of_rows(factors, chunk, gates), *cuts,
            starts, pair_feature, pair_activation, pair_room, chunk.rows, d_sae, blocks,
            NORMED=factors is not None, GATED=encoder.gate_scale is not None, TOP_K=encoder.k is not None,
            BLOCK=BLOCK, **PLACE,
        )  # fmt: skip
    return _encoded(inputs, tally, capacity, Rows(torch.cat([*indptr, n_pairs[None]]), pair_feature, pair_activation))


def gpu_finish(tally: Tally) -> Tally:
    """Make means of the sums of documents, once all batches have been added."""
    sums = tally.pooled.mean
    total = sums.sum(0, dtype=torch.float64)
    sums /= tally.positions.clamp_min(1)[:, None]
    return tally._replace(total=total)


def _gates(encoder: Encoder) -> tuple[Tensor, ...]:
    gates = encoder.gate_scale, encoder.bias, encoder.gate_bias, encoder.threshold
    return tuple((encoder.bias if vector is None else vector).contiguous() for vector in gates)


def _of_rows(factors: Tensor | None, chunk: Chunk, gates: tuple[Tensor, ...]) -> Tensor:
    """Factors of a chunk's rows; without an input norm a vector that no kernel reads."""
    return gates[1] if factors is None else factors[chunk.first :]


def _products(residual: Tensor, encoder: Encoder, chunk: Chunk) -> Tensor:
    product = torch.empty(chunk.rows, encoder.weight.shape[1], device=residual.device)
    _multiply(residual[chunk.first : chunk.first + chunk.rows], encoder.weight, product)
    return product


def _tally_chunk(
    product: Tensor,
    encoder: Encoder,
    gates: tuple[Tensor, ...],
    factors: Tensor | None,
    chunk: Chunk,
    place: tuple[int, int],
    floor: Tensor | None,
    ordinary: Tensor | None,
    tally: Tally,
    *,
    pairs: Tensor | None = None,
    drawn: Drawn | None = None,
    apart: bool = False,
) -> tuple[Tensor, Tensor]:
    """Add a chunk of products to a tally; returns where TopK cuts its rows.

    Args:
        product: [n, d_sae] float32.
        encoder: of the layer.
        gates: of the encoder.
        factors: of the rows of the batch.
        chunk: of the batch.
        place: row of the tally for the chunk's first document, and number of positions before its first row.
        floor: as of `gpu_tally`; None: no candidates.
        ordinary: of the positions of the batch.
        tally: of the layer.
        pairs: [n, B] int32, receives the active features of each row and block.
        drawn: as of `gpu_tally`, of the documents of the batch.
        apart: as of `TallyBatch`.
    """
    d_sae = product.shape[1]
    blocks = _parts(d_sae, BLOCK)
    candidates = tally.candidates
    assert isinstance(candidates, CandidateBuffer)
    of_rows = _of_rows(factors, chunk, gates)
    cuts = gates[1], tally.positions  # never read but with TopK
    if encoder.k is not None:
        cuts = _cuts(product, gates, None if factors is None else of_rows, encoder.k)
    document, position = place
    tiles = len(chunk.tiles)
    documents = slice(document, document + chunk.documents)
    partial = torch.empty(3, tiles, d_sae, device=product.device)
    regular = torch.empty(tiles, dtype=torch.int32, device=product.device)
    marks = regular if floor is None else torch.empty(tiles, d_sae, dtype=torch.int32, device=product.device)
    launch(
        tile_kernel, tiles * blocks,
        product, *gates, of_rows, *cuts,
        gates[1] if floor is None else floor,
        regular if ordinary is None else ordinary[chunk.first :],
        chunk.tiles, partial, regular, tally.pooled.last[documents],
        regular if pairs is None else pairs,
        marks, tally.fault, document, tiles * d_sae, d_sae, blocks,
        NORMED=factors is not None, GATED=encoder.gate_scale is not None, TOP_K=encoder.k is not None,
        OUTLIERS=ordinary is not None, PAIRS=pairs is not None, MARKS=floor is not None,
        FLOOR=floor is not None and drawn is None, BLOCK=BLOCK, **TILE,
    )  # fmt: skip
    launch(
        join_kernel, chunk.documents * blocks,
        partial, regular, chunk.first_tile, tally.pooled.max[documents], tally.pooled.mean[documents],
        tally.positions[documents], tally.active, tiles * d_sae, d_sae, blocks, BLOCK=BLOCK, **JOIN,
    )  # fmt: skip
    if floor is None:
        return cuts
    gate = {"NORMED": factors is not None, "GATED": encoder.gate_scale is not None}
    maximum, pairs_of_chunk, centres, window = tally.pooled.max[documents], marks, marks, 0
    if drawn is not None:
        pairs_of_chunk = drawn.pairs[chunk.document : chunk.document + chunk.documents]
        centres, window = torch.empty_like(marks), drawn.window
        launch(
            centre_kernel, tiles * blocks,
            product, gates[0], gates[1], gates[2], of_rows, chunk.tiles, marks, pairs_of_chunk, maximum, partial, floor,
            centres, d_sae, blocks, DROPPED=drawn.dropped_bits, BLOCK=BLOCK, **gate, **CENTRE,
        )  # fmt: skip
    launch(
        append_kernel, tiles * blocks,
        product, gates[0], gates[1], gates[2], of_rows, chunk.tiles, chunk.first_tile, marks,
        pairs_of_chunk, maximum, floor, centres,
        candidates.number, *candidates.entries, candidates.capacity, position, d_sae, blocks,
        WINDOW=window, APART=apart, BLOCK=BLOCK, **gate, **APPEND,
    )  # fmt: skip
    return cuts


def _cuts(product: Tensor, gates: tuple[Tensor, ...], factors: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """TopK: the k-th largest activation of each row, and the last feature whose tie with it is kept."""
    n, d_sae = product.shape
    value = torch.empty(n, device=product.device)
    feature = torch.empty(n, dtype=torch.int32, device=product.device)
    classes = max(MIN_CLASSES, 1 << (4 * k - 1).bit_length())
    shape = SELECT if classes == MIN_CLASSES else {"ROWS": 1, "num_warps": min(16, classes // 512)}
    scratch = torch.empty(n, classes, dtype=torch.int64, device=product.device)
    launch(
        select_kernel, _parts(n, shape["ROWS"]),
        product, gates[1], gates[3], gates[1] if factors is None else factors, scratch, value, feature, n, d_sae, k,
        NORMED=factors is not None, WIDTH=classes, ROOM=classes, FEATURE_BITS=d_sae.bit_length(), **shape,
    )  # fmt: skip
    return value, feature


def _encoded(inputs: EncodeInputs, tally: Tally, capacity: Capacity, pairs: Rows) -> Encoded:
    """Results of `encode` from the tally of its only batch."""
    tally = gpu_finish(tally)
    last, maximum, _ = tally.pooled
    candidates = tally.candidates
    assert isinstance(candidates, CandidateBuffer)
    columns = Columns(tally.active.long(), tally.total, maximum.amax(0))
    flags = Flags((tally.fault,), inputs)

    def exact_rows(nnz: int) -> Rows:
        if inputs.rows == "last":
            return compressed(last)
        rows = gpu_encode(inputs, capacity=capacity._replace(pairs=nnz)).rows
        assert rows is not None
        return rows.trimmed()

    def exact_survivors(number: int) -> Survivors:
        room = capacity._replace(survivors=number)
        survivors = gpu_encode(inputs._replace(rows="none"), capacity=room).survivors
        assert survivors is not None
        return survivors.trimmed()

    rows = survivors = None
    if inputs.rows == "last":
        # `last` is dense and short: it is compressed when the host reads the rows.
        indptr = torch.nn.functional.pad((last > 0).sum(1).cumsum(0), (1, 0))
        rows = CapacityRows.of(pairs._replace(indptr=indptr), flags, exact_rows)
    elif inputs.rows == "all":
        rows = CapacityRows.of(pairs, flags, exact_rows)
    if inputs.floor is not None:
        survivors = CapacitySurvivors.of(candidates.entries, flags, candidates.number, exact_survivors)
    return Encoded(rows, tally.pooled, columns, survivors, flags)
