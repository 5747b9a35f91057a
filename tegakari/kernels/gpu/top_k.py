"""Triton kernel that finds where TopK cuts a row of products: its k-th largest activation, and the last tie kept.

Activations are >= 0 and order like their bit patterns, so both are found on integers.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Triton reads these functions and Python never runs them, so the types Python sees in them mislead.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false

COARSE_BITS = tl.constexpr(15)
"""Bits of a pattern that the lower bound is exact in: exponent and seven bits of the fraction."""


@triton.jit
def patterns_of(product, bias, threshold, factor, row, row_mask, feature, d_sae, NORMED: tl.constexpr):
    """Bit patterns of the activations of some rows and features, [ROWS, WIDTH] int32; 0 where inactive."""
    inside = feature < d_sae
    mask = row_mask[:, None] & inside[None, :]
    y = tl.load(product + row.to(tl.int64)[:, None] * d_sae + feature[None, :], mask=mask, other=0.0)
    shift = tl.load(bias + feature, mask=inside, other=0.0)[None, :]
    if NORMED:  # as in `tile_of`
        value = tl.fma(y, tl.load(factor + row, mask=row_mask, other=1.0)[:, None], shift)
    else:
        value = y + shift
    active = mask & (value > tl.load(threshold + feature, mask=inside, other=0.0)[None, :])
    return tl.where(active, value, 0.0).to(tl.int32, bitcast=True)


@triton.jit
def count_rows(
    product,  # [n, d_sae] float32
    bias,  # [d_sae] float32
    threshold,  # [d_sae] float32
    factor,  # [n] float32, if NORMED
    row,  # [ROWS]
    row_mask,
    d_sae,
    least,  # [ROWS] int32, bit pattern of an activation
    end,  # [ROWS] int32
    EQUAL: tl.constexpr,
    NORMED: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Number of each row's first `end` activations with a bit pattern >= least, or == least if EQUAL: [ROWS] int32."""
    number = tl.zeros([ROWS], tl.int32)
    for begin in range(0, d_sae, WIDTH):
        feature = begin + tl.arange(0, WIDTH)
        pattern = patterns_of(product, bias, threshold, factor, row, row_mask, feature, d_sae, NORMED)
        hit = (pattern == least[:, None]) if EQUAL else (pattern >= least[:, None])
        number += tl.sum((hit & (feature[None, :] < end[:, None])).to(tl.int32), axis=1)
    return number


# Not compiled again for numbers that happen to be multiples of 16, which change from batch to batch.
@triton.jit(do_not_specialize=["n"])
def select_kernel(
    product,  # [n, d_sae] float32
    bias,  # [d_sae] float32
    threshold,  # [d_sae] float32
    factor,  # [n] float32, if NORMED
    candidates,  # [n, ROOM] int64, scratch
    cut_value,  # [n] float32
    cut_feature,  # [n] int32
    n,
    d_sae,
    k,
    NORMED: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROOM: tl.constexpr,
    FEATURE_BITS: tl.constexpr,
):
    """Some rows.

    Features fall into WIDTH classes by their index modulo WIDTH. The k-th largest of the classes' maxima is a lower
    bound of the k-th largest activation that few others exceed. These few are gathered and sorted. Where a row has more
    than ROOM of them (ties, activations in few classes), halving on bit patterns finds the cut among all.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row_mask = row < n
    maxima = tl.zeros([ROWS, WIDTH], tl.int32)
    for begin in range(0, d_sae, WIDTH):
        feature = begin + tl.arange(0, WIDTH)
        pattern = patterns_of(product, bias, threshold, factor, row, row_mask, feature, d_sae, NORMED)
        maxima = tl.maximum(maxima, pattern)
    bound = tl.zeros([ROWS], tl.int32)
    for step in range(COARSE_BITS):
        guess = bound | (1 << (30 - step))
        bound = tl.where(tl.sum((maxima >= guess[:, None]).to(tl.int32), axis=1) >= k, guess, bound)
    bound = tl.maximum(bound, 1)
    number = tl.zeros([ROWS], tl.int32)
    room = candidates + row.to(tl.int64)[:, None] * ROOM
    for begin in range(0, d_sae, WIDTH):
        feature = begin + tl.arange(0, WIDTH)
        pattern = patterns_of(product, bias, threshold, factor, row, row_mask, feature, d_sae, NORMED)
        strong = pattern >= bound[:, None]
        place = number[:, None] + tl.cumsum(strong.to(tl.int32), axis=1) - 1
        # A larger key is a larger activation, or of equal ones a lower feature.
        key = (pattern.to(tl.int64) << 32) | (0x7FFFFFFF - feature).to(tl.int64)[None, :]
        tl.store(room + place, key, mask=strong & (place < ROOM))
        number += tl.sum(strong.to(tl.int32), axis=1)
    tl.debug_barrier()
    slot = tl.arange(0, ROOM)[None, :]
    keys = tl.load(room + slot, mask=row_mask[:, None] & (slot < number[:, None]), other=0)
    keys = tl.sort(keys, dim=1, descending=True)
    cut = tl.sum(tl.where(slot == k - 1, keys, 0), axis=1)
    # A row with fewer active features than k keeps all: its cut is 0, which none equals.
    value = (cut >> 32).to(tl.int32)
    last_tie = tl.where(cut == 0, 0, 0x7FFFFFFF - (cut & 0x7FFFFFFF).to(tl.int32))
    full = number > ROOM
    if tl.max(full.to(tl.int32), axis=0) > 0:
        everything = tl.zeros([ROWS], tl.int32) + d_sae
        exact = tl.zeros([ROWS], tl.int32)
        for step in range(31):
            guess = exact | (1 << (30 - step))
            above = count_rows(
                product, bias, threshold, factor, row, row_mask, d_sae, guess, everything, False, NORMED, ROWS, WIDTH
            )  # fmt: skip
            exact = tl.where(above >= k, guess, exact)
        above = count_rows(
            product, bias, threshold, factor, row, row_mask, d_sae, exact + 1, everything, False, NORMED, ROWS, WIDTH
        )  # fmt: skip
        tie = tl.zeros([ROWS], tl.int32)
        for step in range(FEATURE_BITS):
            guess = tie | (1 << (FEATURE_BITS - 1 - step))
            ties = count_rows(
                product, bias, threshold, factor, row, row_mask, d_sae, exact, guess, True, NORMED, ROWS, WIDTH
            )  # fmt: skip
            tie = tl.where((guess < d_sae) & (ties < k - above), guess, tie)
        value = tl.where(full, exact, value)
        last_tie = tl.where(full, tie, last_tie)
    tl.store(cut_value + row, value.to(tl.float32, bitcast=True), mask=row_mask)
    tl.store(cut_feature + row, last_tie, mask=row_mask)
