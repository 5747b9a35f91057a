"""Functions that the Triton kernels share: the gate of an SAE, and the activations of a tile of products."""

from __future__ import annotations

import triton
import triton.language as tl
from triton import knobs

# Triton reads these functions and Python never runs them, so the types Python sees in them mislead.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false

BLOCK = 128
"""Features of one program of the kernels that read products."""
INTERPRETED = knobs.runtime.interpret
"""Whether Triton interprets its kernels on the CPU."""


@triton.jit
def gate_of(scale, bias, shift, threshold, feature, inside, GATED: tl.constexpr):
    """Vectors of the gate for some features. Without a gate two of them repeat others and cost no register."""
    bias = tl.load(bias + feature, mask=inside, other=0.0)
    threshold = tl.load(threshold + feature, mask=inside, other=0.0)
    scale = tl.load(scale + feature, mask=inside, other=0.0) if GATED else bias
    shift = tl.load(shift + feature, mask=inside, other=0.0) if GATED else bias
    return scale, bias, shift, threshold


@triton.jit
def before_gate(product, factor, scale, bias, shift, NORMED: tl.constexpr, GATED: tl.constexpr):
    """Pre-activation and value of products, of shapes that broadcast; without a gate they are the same.

    Every kernel that asks rounds alike: a product is multiplied and added to by one instruction.
    """
    if NORMED:
        shifted = tl.fma(product, factor, bias)
        product = product * factor
    else:
        shifted = product + bias
    value = tl.fma(product, scale, shift) if GATED else shifted
    return shifted, value


MASKED = tl.constexpr(-1e30)
"""Product of a place that does not count: finite, and no gate is open there."""


@triton.jit
def tile_of(
    product,  # [n, d_sae] float32
    scale,  # [BLOCK], of these features
    bias,
    shift,
    threshold,
    factor,  # [n] float32, if NORMED: of the products of each row
    cut_value,  # [n] float32, if TOP_K
    cut_feature,  # [n] int32, if TOP_K
    row,  # [ROWS], ascending by one
    row_mask,
    feature,  # [BLOCK]
    d_sae,
    NORMED: tl.constexpr,
    GATED: tl.constexpr,
    TOP_K: tl.constexpr,
):
    """Values of some rows and features before the gate, and where they are active, [ROWS, BLOCK]."""
    mask = row_mask[:, None] & (feature < d_sae)[None, :]
    # One 64-bit address and 32-bit distances from it: addresses of every entry would take twice the registers.
    start = tl.min(row, axis=0)
    place = (row - start)[:, None] * d_sae + feature[None, :]
    product = tl.load(product + start.to(tl.int64) * d_sae + place, mask=mask, other=MASKED)
    of_row = tl.load(factor + row, mask=row_mask, other=1.0)[:, None] if NORMED else product
    shifted, value = before_gate(product, of_row, scale[None, :], bias[None, :], shift[None, :], NORMED, GATED)
    active = (shifted > 0) & (value > 0) if GATED else value > threshold[None, :]
    if TOP_K:
        least = tl.load(cut_value + row, mask=row_mask, other=0.0)[:, None]
        last_tie = tl.load(cut_feature + row, mask=row_mask, other=0)[:, None]
        active = active & ((value > least) | ((value == least) & (feature[None, :] <= last_tie)))
    return value, active
