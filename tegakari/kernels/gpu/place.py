"""Triton kernel that moves the active pairs of all rows to their place in CSR."""

from __future__ import annotations

import triton
import triton.language as tl

from tegakari.kernels.gpu.gate import gate_of, tile_of

# Triton reads these functions and Python never runs them, so the types Python sees in them mislead.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false


# Not compiled again for numbers that happen to be multiples of 16, which change from batch to batch.
@triton.jit(do_not_specialize=["capacity", "n"])
def place_kernel(
    product,  # [n, d_sae] float32
    scale,  # [d_sae] float32, if GATED
    bias,  # [d_sae] float32
    shift,  # [d_sae] float32, if GATED
    threshold,  # [d_sae] float32
    factor,  # [n] float32, if NORMED
    cut_value,  # [n] float32, if TOP_K
    cut_feature,  # [n] int32, if TOP_K
    starts,  # [n, B] int64: where the pairs of a row and block begin
    pair_feature,  # [capacity] int32
    pair_activation,  # [capacity] float32
    capacity,
    n,
    d_sae,
    blocks,
    NORMED: tl.constexpr,
    GATED: tl.constexpr,
    TOP_K: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Some rows of one block. Pairs that do not fit are left out."""
    block = tl.program_id(0) % blocks
    row = tl.program_id(0) // blocks * ROWS + tl.arange(0, ROWS)
    row_mask = row < n
    feature = block * BLOCK + tl.arange(0, BLOCK)
    scale, bias, shift, threshold = gate_of(scale, bias, shift, threshold, feature, feature < d_sae, GATED)
    value, active = tile_of(
        product, scale, bias, shift, threshold, factor, cut_value, cut_feature, row, row_mask, feature, d_sae, NORMED,
        GATED, TOP_K,
    )  # fmt: skip
    rank = tl.cumsum(active.to(tl.int32), axis=1) - 1
    place = tl.load(starts + row.to(tl.int64) * blocks + block, mask=row_mask, other=0)[:, None] + rank
    fits = active & (place < capacity)
    tl.store(pair_feature + place, feature[None, :] + tl.zeros([ROWS, 1], tl.int32), mask=fits)
    tl.store(pair_activation + place, value, mask=fits)
