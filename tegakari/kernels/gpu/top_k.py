"""Triton kernels that find where TopK cuts a row of products: its k-th largest activation, and the last tie kept.

Activations are >= 0 and order like their bit patterns, so both are found on integers.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Triton reads these functions and Python never runs them, so the types Python sees in them mislead.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false

COARSE_BITS = tl.constexpr(16)
"""Leading bits of a pattern that the lower bound is exact in: sign, exponent and seven bits of the fraction."""


@triton.jit
def patterns_of(product, bias, threshold, row, feature, d_sae):
    """Bit patterns, int32, of the activations of a row at some features; 0 where inactive."""
    inside = feature < d_sae
    y = tl.load(product + row.to(tl.int64) * d_sae + feature, mask=inside, other=0.0)
    value = y + tl.load(bias + feature, mask=inside, other=0.0)
    active = inside & (value > tl.load(threshold + feature, mask=inside, other=0.0))
    return tl.where(active, value, 0.0).to(tl.int32, bitcast=True)


@triton.jit
def select_kernel(
    product,  # [n, d_sae] float32
    bias,  # [d_sae] float32
    threshold,  # [d_sae] float32
    candidates,  # [n, ROOM] int64, scratch
    cut_value,  # [n] float32
    cut_feature,  # [n] int32
    d_sae,
    k,
    SEGMENTS: tl.constexpr,
    SEGMENT: tl.constexpr,
    ROOM: tl.constexpr,
    FEATURE_BITS: tl.constexpr,
):
    """One row, in registers: SEGMENTS segments of SEGMENT features.

    The k-th largest of the segments' maxima is a lower bound of the k-th largest activation that few others exceed.
    These few are gathered and sorted. Where they are more than ROOM (ties, a k near the number of segments), halving on
    bit patterns finds the cut among all.
    """
    row = tl.program_id(0)
    feature = tl.arange(0, SEGMENTS)[:, None] * SEGMENT + tl.arange(0, SEGMENT)[None, :]
    pattern = patterns_of(product, bias, threshold, row, feature, d_sae)
    maxima = tl.max(pattern, axis=1)
    bound = tl.zeros([], tl.int32)
    for step in range(COARSE_BITS - 1):
        guess = bound | (1 << (30 - step))
        bound = tl.where(tl.sum((maxima >= guess).to(tl.int32), axis=0) >= k, guess, bound)
    bound = tl.maximum(bound, 1)
    strong = pattern >= bound
    of_segment = tl.sum(strong.to(tl.int32), axis=1)
    number = tl.sum(of_segment, axis=0)
    if number <= ROOM:
        before = tl.cumsum(of_segment, axis=0) - of_segment
        place = before[:, None] + tl.cumsum(strong.to(tl.int32), axis=1) - 1
        # A larger key is a larger activation, or of equal ones a lower feature.
        key = (pattern.to(tl.int64) << 32) | (0x7FFFFFFF - feature).to(tl.int64)
        room = candidates + row.to(tl.int64) * ROOM
        tl.store(room + place, key, mask=strong)
        tl.debug_barrier()
        slot = tl.arange(0, ROOM)
        keys = tl.sort(tl.load(room + slot, mask=slot < number, other=0), descending=True)
        cut = tl.sum(tl.where(slot == tl.minimum(k, number) - 1, keys, 0), axis=0)
        value = (cut >> 32).to(tl.int32)
        last_tie = 0x7FFFFFFF - (cut & 0x7FFFFFFF).to(tl.int32)
        if number < k:  # fewer active features than k: all are kept
            value = tl.zeros([], tl.int32)
            last_tie = tl.zeros([], tl.int32)
    else:
        value = tl.zeros([], tl.int32)
        for step in range(31):
            guess = value | (1 << (30 - step))
            above = tl.sum(tl.sum((pattern >= guess).to(tl.int32), axis=1), axis=0)
            value = tl.where(above >= k, guess, value)
        ties_kept = k - tl.sum(tl.sum((pattern > value).to(tl.int32), axis=1), axis=0)
        tied = pattern == value
        last_tie = tl.zeros([], tl.int32)
        for step in range(FEATURE_BITS):
            guess = last_tie | (1 << (FEATURE_BITS - 1 - step))
            ties = tl.sum(tl.sum((tied & (feature < guess)).to(tl.int32), axis=1), axis=0)
            last_tie = tl.where((guess < d_sae) & (ties < ties_kept), guess, last_tie)
    tl.store(cut_value + row, value.to(tl.float32, bitcast=True))
    tl.store(cut_feature + row, last_tie)


@triton.jit
def count_rows(
    product,  # [n, d_sae] float32
    bias,  # [d_sae] float32
    threshold,  # [d_sae] float32
    row,  # []
    d_sae,
    least,  # [] int32, bit pattern of an activation
    end,  # [] int32
    EQUAL: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Number of the row's first `end` activations with a bit pattern >= least, or == least if EQUAL: [] int32."""
    number = tl.zeros([], tl.int32)
    for begin in range(0, d_sae, WIDTH):
        feature = begin + tl.arange(0, WIDTH)
        pattern = patterns_of(product, bias, threshold, row, feature, d_sae)
        hit = (pattern == least) if EQUAL else (pattern >= least)
        number += tl.sum((hit & (feature < end)).to(tl.int32), axis=0)
    return number


@triton.jit
def select_wide_kernel(
    product,  # [n, d_sae] float32
    bias,  # [d_sae] float32
    threshold,  # [d_sae] float32
    cut_value,  # [n] float32
    cut_feature,  # [n] int32
    d_sae,
    k,
    WIDTH: tl.constexpr,
    FEATURE_BITS: tl.constexpr,
):
    """One row that does not fit into registers: it is read again for each halving."""
    row = tl.program_id(0)
    value = tl.zeros([], tl.int32)
    for step in range(31):
        guess = value | (1 << (30 - step))
        number = count_rows(product, bias, threshold, row, d_sae, guess, d_sae, False, WIDTH)
        value = tl.where(number >= k, guess, value)
    above = count_rows(product, bias, threshold, row, d_sae, value + 1, d_sae, False, WIDTH)
    last_tie = tl.zeros([], tl.int32)
    for step in range(FEATURE_BITS):
        guess = last_tie | (1 << (FEATURE_BITS - 1 - step))
        ties = count_rows(product, bias, threshold, row, d_sae, value, guess, True, WIDTH)
        last_tie = tl.where((guess < d_sae) & (ties < k - above), guess, last_tie)
    tl.store(cut_value + row, value.to(tl.float32, bitcast=True))
    tl.store(cut_feature + row, last_tie)
