"""Triton kernel that appends marked entries of the products to a list: survivors, or the activations of whole pairs.

`tile_kernel` has read all products and marked the entries that may be wanted; this kernel reads those that are.
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


# Not compiled again for numbers that happen to be multiples of 16, which change from batch to batch.
@triton.jit(do_not_specialize=["capacity", "first_position"])
def append_kernel(
    product,  # [n, d_sae] float32
    scale,  # [d_sae] float32, if GATED
    bias,  # [d_sae] float32
    shift,  # [d_sae] float32, if GATED
    factor,  # [n] float32, if NORMED
    tiles,  # [N, 4] int32
    marks,  # [N, d_sae] int32: a bit per row of the tile
    whole,  # [D, d_sae] bool, if PAIRS: pairs of which all marked entries are taken
    maximum,  # [D, d_sae] float32, if PAIRS: largest activation of each pair
    floor,  # [d_sae] float32, if PAIRS: from which all entries of a pair are taken
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
    PAIRS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One tile and one block of features, in one warp; an entry is read in one step per mark of its feature.

    One atomic addition gives the entries of a program their places. The order of the programs depends on timing, so
    the caller sorts the list.
    """
    block = tl.program_id(0) % blocks
    tile = tl.program_id(0) // blocks
    feature = block * BLOCK + tl.arange(0, BLOCK)
    at = tile.to(tl.int64) * d_sae + feature
    left = tl.load(marks + at, mask=feature < d_sae, other=0).to(tl.uint32, bitcast=True)
    if PAIRS:
        pair = tl.load(tiles + tile * 4).to(tl.int64) * d_sae + feature
        marked = left != 0
        named = tl.load(whole + pair, mask=marked, other=0) != 0
        reaches = tl.load(maximum + pair, mask=marked, other=0.0) >= tl.load(floor + feature, mask=marked, other=0.0)
        left = tl.where(named | reaches, left, 0)
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
