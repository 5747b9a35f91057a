"""Triton kernels that pool: one reads the products of a tile once, the other joins the tiles of a document.

Shapes in the comments: n rows of the chunk, N tiles, D documents of the chunk, B = ceil(d_sae / BLOCK) blocks.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tegakari.kernels.gpu.gate import gate_of, tile_of

# Triton reads these functions and Python never runs them, so the types Python sees in them mislead.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false


# Not compiled again for numbers that happen to be multiples of 16, which change from batch to batch.
@triton.jit(do_not_specialize=["first_document"])
def tile_kernel(
    product,  # [n, d_sae] float32
    scale,  # [d_sae] float32, if GATED
    bias,  # [d_sae] float32
    shift,  # [d_sae] float32, if GATED
    threshold,  # [d_sae] float32
    factor,  # [n] float32, if NORMED
    cut_value,  # [n] float32, if TOP_K
    cut_feature,  # [n] int32, if TOP_K
    floor,  # [d_sae] float32, if FLOOR
    ordinary,  # [n] bool, if OUTLIERS
    tiles,  # [N, 4] int32
    partial,  # [3, N, d_sae] float32: maximum, sum and number of the active rows of each tile
    regular,  # [N] int32: rows of each tile that count
    last,  # [D, d_sae] float32
    pairs,  # [n, B] int32, if PAIRS: active features of each row and block
    marks,  # [N, d_sae] int32, if MARKS: a bit per active row of the tile, with FLOOR of those that reach the floor
    fault,  # [] int32
    first_document,  # row of the shard for the chunk's first document
    size,  # N * d_sae
    d_sae,
    blocks,
    NORMED: tl.constexpr,
    GATED: tl.constexpr,
    TOP_K: tl.constexpr,
    OUTLIERS: tl.constexpr,
    PAIRS: tl.constexpr,
    MARKS: tl.constexpr,
    FLOOR: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One tile and one block of features, in one warp: each lane owns a few features and meets no other lane.

    Products are read once. Every result has one writer, or is the same whoever writes.
    """
    block = tl.program_id(0) % blocks
    tile = tl.program_id(0) // blocks
    document = tl.load(tiles + tile * 4)
    start = tl.load(tiles + tile * 4 + 1)
    stop = start + tl.load(tiles + tile * 4 + 2)
    ends_document = tl.load(tiles + tile * 4 + 3)
    feature = block * BLOCK + tl.arange(0, BLOCK)
    inside = feature < d_sae
    scale, bias, shift, threshold = gate_of(scale, bias, shift, threshold, feature, inside, GATED)
    least = tl.zeros([BLOCK], tl.float32)
    if FLOOR:
        least = tl.load(floor + feature, mask=inside, other=0.0)
    # Numbers are summed as float32, of masks too: LLVM packs a mask that is summed as integers into bytes on the stack.
    peak = tl.zeros([BLOCK], tl.float32)
    sums = tl.zeros([BLOCK], tl.float32)
    active_rows = tl.zeros([BLOCK], tl.float32)
    marked = tl.zeros([BLOCK], tl.int32)
    poison = tl.zeros([BLOCK], tl.float32)
    counted = tl.zeros([ROWS], tl.int32)
    for begin in range(start, stop, ROWS):
        row = begin + tl.arange(0, ROWS)
        row_mask = row < stop
        if OUTLIERS:
            row_mask = row_mask & (tl.load(ordinary + row, mask=row_mask, other=0) != 0)
        value, active = tile_of(
            product, scale, bias, shift, threshold, factor, cut_value, cut_feature, row, row_mask, feature, d_sae,
            NORMED, GATED, TOP_K,
        )  # fmt: skip
        activation = tl.where(active, value, 0.0)
        peak = tl.maximum(peak, tl.max(activation, axis=0))
        sums += tl.sum(activation, axis=0)
        active_rows += tl.sum(tl.where(active, 1.0, 0.0), axis=0)
        poison += tl.sum(value * 0.0, axis=0)  # NaN if one is NaN or infinite
        counted += row_mask.to(tl.int32)
        if PAIRS:
            of_rows = tl.sum(tl.where(active, 1.0, 0.0), axis=1).to(tl.int32)
            tl.store(pairs + row.to(tl.int64) * blocks + block, of_rows, mask=row < stop)
        if MARKS:
            wanted = active & (value >= least[None, :]) if FLOOR else active
            bit = (1 << (row - start))[:, None] + tl.zeros([1, BLOCK], tl.int32)
            marked += tl.sum(tl.where(wanted, bit, 0), axis=0)
    at = partial + tile.to(tl.int64) * d_sae + feature
    tl.store(at, peak, mask=inside)
    tl.store(at + size, sums, mask=inside)
    tl.store(at + size + size, active_rows, mask=inside)  # twice the size would leave an int32 sooner
    if MARKS:
        tl.store(marks + tile.to(tl.int64) * d_sae + feature, marked, mask=inside)
    if block == 0:
        tl.store(regular + tile, tl.sum(counted, axis=0))
    if ends_document != 0:
        head = stop - 1 + tl.arange(0, 1)
        head_mask = head >= start
        if OUTLIERS:
            head_mask = head_mask & (tl.load(ordinary + head, mask=head_mask, other=0) != 0)
        value, active = tile_of(
            product, scale, bias, shift, threshold, factor, cut_value, cut_feature, head, head_mask, feature, d_sae,
            NORMED, GATED, TOP_K,
        )  # fmt: skip
        final = tl.reshape(tl.where(active, value, 0.0), [BLOCK])
        tl.store(last + document.to(tl.int64) * d_sae + feature, final, mask=inside)
    bad = (poison != 0.0) | ~(tl.abs(bias) < float("inf")) | ~(threshold >= 0)
    if tl.max(bad.to(tl.int32), axis=0) > 0:
        tl.atomic_max(fault, first_document + document + 1, sem="relaxed")


@triton.jit(do_not_specialize_on_alignment=["positions"])
def join_kernel(
    partial,  # [3, N, d_sae] float32
    regular,  # [N] int32
    first_tile,  # [D + 1] int32
    maximum,  # [D, d_sae] float32
    total,  # [D, d_sae] float32: sums, of which `gpu_finish` makes means
    positions,  # [D] int32
    count,  # [d_sae] int32
    size,  # N * d_sae
    d_sae,
    blocks,
    BLOCK: tl.constexpr,
):
    """One document and one block of features: join the tiles of the document, in their order."""
    block = tl.program_id(0) % blocks
    document = tl.program_id(0) // blocks
    feature = block * BLOCK + tl.arange(0, BLOCK)
    inside = feature < d_sae
    peak = tl.zeros([BLOCK], tl.float32)
    sums = tl.zeros([BLOCK], tl.float32)
    active_rows = tl.zeros([BLOCK], tl.float32)
    rows = 0
    begin = tl.load(first_tile + document)
    at = partial + begin.to(tl.int64) * d_sae + feature
    for tile in range(begin, tl.load(first_tile + document + 1)):
        peak = tl.maximum(peak, tl.load(at, mask=inside, other=0.0))
        sums += tl.load(at + size, mask=inside, other=0.0)
        active_rows += tl.load(at + size + size, mask=inside, other=0.0)
        rows += tl.load(regular + tile)
        at += d_sae
    to = document.to(tl.int64) * d_sae + feature
    tl.store(maximum + to, peak, mask=inside)
    tl.store(total + to, sums, mask=inside)
    tl.atomic_add(count + feature, active_rows.to(tl.int32), mask=inside & (active_rows > 0), sem="relaxed")
    if block == 0:
        tl.store(positions + document, rows)
