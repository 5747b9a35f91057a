"""Triton kernels that append marked entries of the products to a list: survivors, or the activations in windows.

`tile_kernel` has read all products and marked the entries that may be wanted; `centre_kernel` reads those of the tiles
that have centres, and `append_kernel` those near to centres.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tegakari.kernels.gpu.gate import before_gate

# Triton reads these functions and Python never runs them, so the types Python sees in them mislead.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false


@triton.jit
def ones_of(bits):
    """Number of ones of each uint32, as int32; LLVM knows the pattern, and makes one instruction of it."""
    bits = bits - ((bits >> 1) & 0x55555555)
    bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F
    return ((bits * 0x01010101) >> 24).to(tl.int32)


@triton.jit
def stored_of(value, DROPPED: tl.constexpr):
    """Positive float32 as they are stored: as `tegakari.store.blocks.activations.rounded_bits`."""
    raw = value.to(tl.int32, bitcast=True)
    nearest = (raw + ((1 << (DROPPED - 1)) - 1) + ((raw >> DROPPED) & 1)) >> DROPPED
    return tl.minimum(tl.maximum(nearest, 1), 0x7F7FFFFF >> DROPPED)


@triton.jit
def centre_kernel(
    product,  # [n, d_sae] float32
    scale,  # [d_sae] float32, if GATED
    bias,  # [d_sae] float32
    shift,  # [d_sae] float32, if GATED
    factor,  # [n] float32, if NORMED
    tiles,  # [N, 4] int32
    marks,  # [N, d_sae] int32: a bit per active row of the tile
    drawn,  # [D, d_sae] bool: pairs whose strongest position is a centre
    maximum,  # [D, d_sae] float32: largest activation of each pair
    peak,  # [N, d_sae] float32: largest activation of each tile
    floor,  # [d_sae] float32: from which an activation is a centre
    centres,  # [N, d_sae] int32: a bit per centre; of pairs without one it has no values
    d_sae,
    blocks,
    NORMED: tl.constexpr,
    GATED: tl.constexpr,
    DROPPED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One tile and one block of features, in one warp; entries are read where the tile's largest is a centre."""
    block = tl.program_id(0) % blocks
    tile = tl.program_id(0) // blocks
    feature = block * BLOCK + tl.arange(0, BLOCK)
    inside = feature < d_sae
    at = tile.to(tl.int64) * d_sae + feature
    pair = tl.load(tiles + tile * 4).to(tl.int64) * d_sae + feature
    named = tl.load(drawn + pair, mask=inside, other=0) != 0
    largest = tl.load(maximum + pair, mask=inside, other=0.0)
    least = tl.load(floor + feature, mask=inside, other=0.0)
    wanted = inside & (named | (largest >= least))
    of_tile = tl.load(peak + at, mask=wanted, other=0.0)
    stored = stored_of(largest, DROPPED)
    has_centre = wanted & ((of_tile >= least) | (named & (stored_of(of_tile, DROPPED) == stored)))
    left = tl.load(marks + at, mask=has_centre, other=0).to(tl.uint32, bitcast=True)
    found = left ^ left
    start = tl.load(tiles + tile * 4 + 1)
    rows = product + start.to(tl.int64) * d_sae + feature
    marked = left != 0
    of_bias = tl.load(bias + feature, mask=marked, other=0.0)
    of_scale = tl.load(scale + feature, mask=marked, other=0.0) if GATED else of_bias
    of_shift = tl.load(shift + feature, mask=marked, other=0.0) if GATED else of_bias
    for _ in range(tl.max(ones_of(left), axis=0)):
        marked = left != 0
        row = ones_of((left ^ (left - 1)) >> 1)  # place of the lowest mark
        y = tl.load(rows + row * d_sae, mask=marked, other=0.0)
        of_row = tl.load(factor + start + row, mask=marked, other=1.0) if NORMED else y
        _, value = before_gate(y, of_row, of_scale, of_bias, of_shift, NORMED, GATED)
        centre = (value >= least) | (named & (stored_of(value, DROPPED) == stored))
        rest = left & (left - 1)
        found |= tl.where(centre, left ^ rest, 0)
        left = rest
    tl.store(centres + at, found.to(tl.int32, bitcast=True), mask=wanted)


@triton.jit
def near_to(centres, at, tile, begin, stop, mask, d_sae, WINDOW: tl.constexpr):
    """Rows of a tile, a bit of uint32 each, that are at most WINDOW rows from a centre of the same document.

    Of the rows from WINDOW before the tile to WINDOW behind it, bits of one integer, a row is near if any of the
    2 * WINDOW + 1 bits from its own place on is set.
    """
    tl.static_assert(WINDOW >= 8 and WINDOW <= 15)
    own = tl.load(centres + at, mask=mask, other=0).to(tl.uint32, bitcast=True)
    before = tl.load(centres + at - d_sae, mask=mask & (tile > begin), other=0).to(tl.uint32, bitcast=True)
    after = tl.load(centres + at + d_sae, mask=mask & (tile + 1 < stop), other=0).to(tl.uint32, bitcast=True)
    near = own.to(tl.uint64) << WINDOW
    near |= (before >> (32 - WINDOW)).to(tl.uint64)
    near |= (after & ((1 << WINDOW) - 1)).to(tl.uint64) << (32 + WINDOW)
    near |= near >> 1
    near |= near >> 2
    near |= near >> 4
    near |= near >> 8
    near |= near >> (2 * WINDOW - 15)
    return near.to(tl.uint32)


# Not compiled again for numbers that happen to be multiples of 16, which change from batch to batch.
@triton.jit(do_not_specialize=["capacity", "first_position"])
def append_kernel(
    product,  # [n, d_sae] float32
    scale,  # [d_sae] float32, if GATED
    bias,  # [d_sae] float32
    shift,  # [d_sae] float32, if GATED
    factor,  # [n] float32, if NORMED
    tiles,  # [N, 4] int32
    first_tile,  # [D + 1] int32, if WINDOW
    marks,  # [N, d_sae] int32: a bit per row of the tile
    drawn,  # [D, d_sae] bool, if WINDOW, as of `centre_kernel`
    maximum,  # [D, d_sae] float32, if WINDOW
    floor,  # [d_sae] float32, if WINDOW
    centres,  # [N, d_sae] int32, if WINDOW
    number,  # [] int64, candidates so far
    candidate_feature,  # [capacity] int32
    candidate_position,  # [capacity] int32
    candidate_activation,  # [capacity] float32
    capacity,
    first_position,  # position of the shard for the chunk's row 0
    d_sae,
    blocks,
    NORMED: tl.constexpr,
    GATED: tl.constexpr,
    WINDOW: tl.constexpr,
    APART: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One tile and one block of features, in one warp; an entry is read in one step per mark of its feature.

    With a WINDOW, entries are taken that are at most so many rows from a centre of their pair. With APART, the last row
    of a document is near to all: a pair of which entries are taken has a centre.

    One atomic addition gives the entries of a program their places. The order of the programs depends on timing, so
    the caller sorts the list.
    """
    block = tl.program_id(0) % blocks
    tile = tl.program_id(0) // blocks
    feature = block * BLOCK + tl.arange(0, BLOCK)
    at = tile.to(tl.int64) * d_sae + feature
    left = tl.load(marks + at, mask=feature < d_sae, other=0).to(tl.uint32, bitcast=True)
    if WINDOW > 0:
        document = tl.load(tiles + tile * 4)
        pair = document.to(tl.int64) * d_sae + feature
        marked = left != 0
        named = tl.load(drawn + pair, mask=marked, other=0) != 0
        reaches = tl.load(maximum + pair, mask=marked, other=0.0) >= tl.load(floor + feature, mask=marked, other=0.0)
        wanted = marked & (named | reaches)
        begin = tl.load(first_tile + document)
        stop = tl.load(first_tile + document + 1)
        near = near_to(centres, at, tile, begin, stop, wanted, d_sae, WINDOW)
        if APART:
            head = (1 << (tl.load(tiles + stop * 4 - 2) - 1)).to(tl.uint32)
            of_head = tl.load(centres + (stop - 1).to(tl.int64) * d_sae + feature, mask=wanted, other=0)
            near |= tl.where((of_head.to(tl.uint32, bitcast=True) & head) != 0, 0xFFFFFFFF, 0).to(tl.uint32)
            near |= tl.where(tile + 1 == stop, head, 0).to(tl.uint32)
        left = tl.where(wanted, left & near, 0)
    entries = ones_of(left)
    in_all = tl.sum(entries, axis=0)
    if in_all > 0:
        first = tl.atomic_add(number, in_all.to(tl.int64), sem="relaxed")
        room = tl.minimum(tl.maximum(capacity - first, 0), 0x7FFFFFFF).to(tl.int32)
        place = tl.cumsum(entries, axis=0) - entries
        start = tl.load(tiles + tile * 4 + 1)
        rows = product + start.to(tl.int64) * d_sae + feature
        inside = left != 0
        of_bias = tl.load(bias + feature, mask=inside, other=0.0)
        of_scale = tl.load(scale + feature, mask=inside, other=0.0) if GATED else of_bias
        of_shift = tl.load(shift + feature, mask=inside, other=0.0) if GATED else of_bias
        for _ in range(tl.max(entries, axis=0)):
            inside = left != 0
            row = ones_of((left ^ (left - 1)) >> 1)  # place of the lowest mark
            y = tl.load(rows + row * d_sae, mask=inside, other=0.0)
            of_row = tl.load(factor + start + row, mask=inside, other=1.0) if NORMED else y
            _, value = before_gate(y, of_row, of_scale, of_bias, of_shift, NORMED, GATED)
            fits = inside & (place < room)
            tl.store(candidate_feature + first + place, feature, mask=fits)
            tl.store(candidate_position + first + place, first_position + start + row, mask=fits)
            tl.store(candidate_activation + first + place, value, mask=fits)
            left &= left - 1
            place += 1
