"""Triton kernel that finds where TopK cuts a row of products."""

from __future__ import annotations

import triton
import triton.language as tl

# Triton reads these functions and Python never runs them, so the types Python sees in them mislead.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false


@triton.jit
def count_rows(
    product,  # [n, d_sae]
    bias,  # [d_sae] float32
    threshold,  # [d_sae] float32
    row,  # [ROWS]
    row_mask,
    d_sae,
    least,  # [ROWS] int32, bit pattern of an activation
    end,  # [ROWS] int32
    EQUAL: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Count each row's first `end` activations with a bit pattern >= least, or == least if EQUAL: [ROWS] int32."""
    number = tl.zeros([ROWS], tl.int32)
    for begin in range(0, d_sae, BLOCK):
        feature = begin + tl.arange(0, BLOCK)
        inside = feature < d_sae
        mask = row_mask[:, None] & inside[None, :]
        y = tl.load(product + row.to(tl.int64)[:, None] * d_sae + feature[None, :], mask=mask, other=0.0).to(tl.float32)
        value = y + tl.load(bias + feature, mask=inside, other=0.0)[None, :]
        active = value > tl.load(threshold + feature, mask=inside, other=0.0)[None, :]
        pattern = tl.where(active & mask, value, 0.0).to(tl.int32, bitcast=True)
        hit = (pattern == least[:, None]) if EQUAL else (pattern >= least[:, None])
        # As float32: LLVM packs a mask that is summed as integers into bytes on the stack.
        number += tl.sum((hit & (feature[None, :] < end[:, None])).to(tl.float32), axis=1).to(tl.int32)
    return number


@triton.jit
def cut_kernel(
    product,  # [n, d_sae]
    bias,  # [d_sae] float32
    threshold,  # [d_sae] float32
    cut_value,  # [n] float32
    cut_feature,  # [n] int32
    n,
    d_sae,
    k,
    FEATURE_BITS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """TopK: each row's k-th largest activation, and the last feature whose tie with it is kept.

    Activations are >= 0 and order like their bit patterns: 31 halvings find the value, FEATURE_BITS more the feature.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row_mask = row < n
    everything = tl.zeros([ROWS], tl.int32) + d_sae
    value = tl.zeros([ROWS], tl.int32)
    for step in range(31):
        guess = value | (1 << (30 - step))
        number = count_rows(product, bias, threshold, row, row_mask, d_sae, guess, everything, False, ROWS, BLOCK)
        value = tl.where(number >= k, guess, value)
    above = count_rows(product, bias, threshold, row, row_mask, d_sae, value + 1, everything, False, ROWS, BLOCK)
    feature = tl.zeros([ROWS], tl.int32)
    for step in range(FEATURE_BITS):
        guess = feature | (1 << (FEATURE_BITS - 1 - step))
        ties = count_rows(product, bias, threshold, row, row_mask, d_sae, value, guess, True, ROWS, BLOCK)
        feature = tl.where((guess < d_sae) & (ties < k - above), guess, feature)
    tl.store(cut_value + row, value.to(tl.float32, bitcast=True), mask=row_mask)
    tl.store(cut_feature + row, feature, mask=row_mask)
