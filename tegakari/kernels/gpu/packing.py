"""Functions that the Triton kernels share: the gate of an SAE, and packed rows.

A packed row holds one bit per feature (`bits` [n, padded / 32] int32) and, in the place of each SEGMENT of features,
the activations of its set bits, left-aligned (`values` [n, padded] float32, of which the rest is never written). The
rank of a set bit in its segment is a popcount, so packing and unpacking need no atomics and no scan over features.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton import knobs

# Triton reads these functions and Python never runs them, so the types Python sees in them mislead.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false

BLOCK = 128
"""Features of one program of `pool_kernel` and `place_kernel`, and of one count."""
SEGMENT = 64
"""Features whose activations are packed together: `fused_kernel` can write its tile in parts of this width."""
INTERPRETED = knobs.runtime.interpret
"""The interpreter knows no inline assembly, and computes bfloat16 on raw bit patterns."""
LARGEST = tl.constexpr(3.4028234663852886e38)


@triton.jit
def popcount(x, INTERPRETED: tl.constexpr):
    """Set bits of int32."""
    if INTERPRETED:
        u = x.to(tl.uint32, bitcast=True)
        u = u - ((u >> 1) & 0x55555555)
        u = (u & 0x33333333) + ((u >> 2) & 0x33333333)
        u = (u + (u >> 4)) & 0x0F0F0F0F
        count = ((u + (u >> 8) + (u >> 16) + (u >> 24)) & 0x3F).to(tl.int32)
    else:
        count = tl.inline_asm_elementwise("popc.b32 $0, $1;", "=r,r", [x], dtype=tl.int32, is_pure=True, pack=1)
    return count


@triton.jit
def ranks_of(words, ROWS: tl.constexpr, WIDTH: tl.constexpr, SEGMENT: tl.constexpr, INTERPRETED: tl.constexpr):
    """From words [ROWS, WIDTH / 32]: how many set bits of its segment lie before each feature, [ROWS, WIDTH] int32."""
    below = (1 << tl.arange(0, 32)) - 1
    inside = popcount(words[:, :, None] & below[None, None, :], INTERPRETED)
    counts = tl.reshape(popcount(words, INTERPRETED), [ROWS, WIDTH // SEGMENT, SEGMENT // 32])
    before = tl.reshape(tl.cumsum(counts, axis=2) - counts, [ROWS, WIDTH // 32])
    return tl.reshape(before[:, :, None] + inside, [ROWS, WIDTH])


@triton.jit
def packed(active, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Words [ROWS, WIDTH / 32] int32 of a mask [ROWS, WIDTH]."""
    lane = tl.arange(0, 32)
    grouped = tl.reshape(active, [ROWS, WIDTH // 32, 32])
    return tl.sum(tl.where(grouped, 1 << lane[None, None, :], 0), axis=2)


@triton.jit
def unpacked(words, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Mask [ROWS, WIDTH] of words [ROWS, WIDTH / 32]."""
    lane = tl.arange(0, 32)
    return tl.reshape(((words[:, :, None] >> lane[None, None, :]) & 1) != 0, [ROWS, WIDTH])


@triton.jit
def values_of(
    values,  # [n, padded]
    words,  # [ROWS, WIDTH / 32]
    active,  # [ROWS, WIDTH]
    rows,  # [ROWS, 1] int64
    feature,  # [WIDTH]
    padded,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    SEGMENT: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Activations [ROWS, WIDTH] of packed rows."""
    place = feature[None, :] // SEGMENT * SEGMENT + ranks_of(words, ROWS, WIDTH, SEGMENT, INTERPRETED)
    return tl.load(values + rows * padded + place, mask=active, other=0.0)


@triton.jit
def gate_of(scale, bias, shift, threshold, feature, inside, GATED: tl.constexpr):
    """Vectors of the gate for some features. Without a gate two of them repeat others and cost no register."""
    bias = tl.load(bias + feature, mask=inside, other=0.0)
    threshold = tl.load(threshold + feature, mask=inside, other=0.0)
    scale = tl.load(scale + feature, mask=inside, other=0.0) if GATED else bias
    shift = tl.load(shift + feature, mask=inside, other=0.0) if GATED else bias
    return scale, bias, shift, threshold


@triton.jit
def gated(product, scale, bias, shift, threshold, GATED: tl.constexpr):
    """Values of products, and which are active."""
    if GATED:
        value = tl.fma(product, scale[None, :], shift[None, :])  # rounded once in every kernel that asks
        active = (product + bias[None, :] > 0) & (value > 0)
    else:
        value = product + bias[None, :]
        active = value > threshold[None, :]
    return value, active
