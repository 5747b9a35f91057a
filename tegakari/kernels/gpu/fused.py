"""Triton kernel of the fused path: a GEMM whose products never leave the chip, only packed rows do."""

from __future__ import annotations

import triton
import triton.language as tl

from tegakari.kernels.gpu.packing import LARGEST, gate_of, gated, packed, ranks_of

# Triton reads these functions and Python never runs them, so the types Python sees in them mislead.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false


@triton.jit
def pack_tile(
    product,  # [ROWS, WIDTH]
    scale,  # [d_sae] float32, if GATED
    bias,  # [d_sae] float32
    shift,  # [d_sae] float32, if GATED
    threshold,  # [d_sae] float32
    bits,  # [n, padded / 32] int32
    values,  # [n, padded] float32
    row,  # [ROWS]
    start,  # first feature
    n,
    d_sae,
    padded,
    GATED: tl.constexpr,
    SPLIT: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    SEGMENT: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Gate a tile of products and write it as packed rows; returns whether one was NaN or infinite.

    In SPLIT parts one after another, each at least a segment wide: the next part gets the registers of the last.
    """
    if SPLIT > 1:
        halves = tl.permute(tl.reshape(product, [ROWS, 2, WIDTH // 2]), [0, 2, 1])
        left, right = tl.split(halves)
        flag = pack_tile(
            left, scale, bias, shift, threshold, bits, values, row, start, n, d_sae, padded, GATED, SPLIT // 2, ROWS,
            WIDTH // 2, SEGMENT, INTERPRETED,
        )  # fmt: skip
        flag = flag | pack_tile(
            right, scale, bias, shift, threshold, bits, values, row, start + WIDTH // 2, n, d_sae, padded, GATED,
            SPLIT // 2, ROWS, WIDTH // 2, SEGMENT, INTERPRETED,
        )  # fmt: skip
    else:
        feature = start + tl.arange(0, WIDTH)
        inside = feature < d_sae
        mask = (row < n)[:, None] & inside[None, :]
        scale, bias, shift, threshold = gate_of(scale, bias, shift, threshold, feature, inside, GATED)
        value, active = gated(product, scale, bias, shift, threshold, GATED)
        words = packed(active & mask, ROWS, WIDTH)
        rows = row.to(tl.int64)[:, None]
        word = start // 32 + tl.arange(0, WIDTH // 32)
        word_mask = (row < n)[:, None] & (word < padded // 32)[None, :]
        tl.store(bits + rows * (padded // 32) + word[None, :], words, mask=word_mask)
        place = feature[None, :] // SEGMENT * SEGMENT + ranks_of(words, ROWS, WIDTH, SEGMENT, INTERPRETED)
        tl.store(values + rows * padded + place, value, mask=active & mask)
        flag = tl.max(tl.max((mask & ~(tl.abs(value) <= LARGEST)).to(tl.int32), axis=1), axis=0)
    return flag


@triton.jit
def fused_kernel(
    residual,  # [n, K]
    weight,  # [K, d_sae], strides below
    scale,  # [d_sae] float32, if GATED
    bias,  # [d_sae] float32
    shift,  # [d_sae] float32, if GATED
    threshold,  # [d_sae] float32
    bits,  # [n, padded / 32] int32
    values,  # [n, padded] float32
    flags,  # [row tiles, column tiles] int32
    n,
    stride_row,
    stride_k,
    stride_feature,
    padded: tl.constexpr,
    d_sae: tl.constexpr,
    K: tl.constexpr,
    GATED: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
    SPLIT: tl.constexpr,
    SEGMENT: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Encode GEMM of one tile [ROWS, WIDTH] whose products never leave the chip: only packed rows do."""
    row_tiles = tl.cdiv(n, ROWS)
    column_tiles = tl.cdiv(padded, WIDTH)  # beyond d_sae too: every bit of a row is written
    # GROUP row tiles share the columns of the weight while they are in the second-level cache.
    program = tl.program_id(0)
    in_group = GROUP * column_tiles
    first_tile = program // in_group * GROUP
    group = min(row_tiles - first_tile, GROUP)
    row_tile = first_tile + program % in_group % group
    column_tile = program % in_group // group
    row = row_tile * ROWS + tl.arange(0, ROWS)
    feature = column_tile * WIDTH + tl.arange(0, WIDTH)
    depth = tl.arange(0, DEPTH)
    # Beyond the edge the last row and feature are read again: a mask in the loop would cost the asynchronous copies.
    row_from = tl.minimum(row, n - 1).to(tl.int64)
    feature_from = feature.to(tl.int64) if padded == d_sae else tl.minimum(feature, d_sae - 1).to(tl.int64)
    row_at = residual + row_from[:, None] * stride_row + depth[None, :]
    weight_at = weight + depth.to(tl.int64)[:, None] * stride_k + feature_from[None, :] * stride_feature
    product = tl.zeros([ROWS, WIDTH], tl.float32)
    for k in range(0, K, DEPTH):
        if K % DEPTH == 0:
            left, right = tl.load(row_at), tl.load(weight_at)
        else:
            left = tl.load(row_at, mask=(depth < K - k)[None, :], other=0.0)
            right = tl.load(weight_at, mask=(depth < K - k)[:, None], other=0.0)
        if INTERPRETED:
            left, right = left.to(tl.float32), right.to(tl.float32)
        product = tl.dot(left, right, product, input_precision="ieee")
        row_at += DEPTH
        weight_at += DEPTH * stride_k
    start = column_tile * WIDTH
    bad = pack_tile(
        product, scale, bias, shift, threshold, bits, values, row, start, n, d_sae, padded, GATED, SPLIT, ROWS, WIDTH,
        SEGMENT, INTERPRETED,
    )  # fmt: skip
    tl.store(flags + row_tile * column_tiles + column_tile, bad)
