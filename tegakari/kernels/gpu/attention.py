"""Soft-capped causal attention of right-padded documents in one Triton kernel, which writes no scores to memory.

A soft cap bounds the scores, so that their softmax needs no maximum: exp(score) of float32 neither overflows nor
vanishes, and the parts of a row are summed as they come.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from tegakari.kernels.gpu.gate import INTERPRETED
from tegakari.kernels.gpu.launch import launch

# Triton reads these functions and Python never runs them, so the types Python sees in them mislead.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false

MAX_CAP = 60.0
"""Largest soft cap: exp(60) is 1e26, and leaves a factor of 1e12 for sums and values. Gemma 2 has 50."""

HEAD_SIZES = (16, 32, 64, 128, 256)
"""Sizes of a head that a tile can have."""

TILE = {"ROWS": 64, "COLUMNS": 32, "num_warps": 4, "num_stages": 2}
"""Positions per program, positions per step of its loop, and the launch settings: two programs per multiprocessor of an
H100 with heads of 256. 64 positions per step spill."""

LOG2_E = tl.constexpr(math.log2(math.e))


@triton.jit
def dot(a, b, sums, WIDENED: tl.constexpr):
    """Products added to sums. The interpreter multiplies bfloat16 as integers: it gets widened operands, as exact."""
    if WIDENED:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, sums, input_precision="ieee")


@triton.jit(do_not_specialize=["tokens", "window"])  # one compilation for batches of all lengths
def attention_kernel(
    query,  # [documents, HEADS, tokens, WIDTH]
    key,  # [documents, HEADS / GROUP, tokens, WIDTH]
    value,  # as key
    output,  # [documents, tokens, HEADS, WIDTH], contiguous
    lengths,  # [documents] int32
    tokens,
    window,
    query_document,  # strides; that of WIDTH is 1
    query_head,
    query_token,
    key_document,
    key_head,
    key_token,
    value_document,
    value_head,
    value_token,
    SCALE: tl.constexpr,
    CAP: tl.constexpr,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDENED: tl.constexpr,
):
    """ROWS positions of one head of one document; the last positions, which have most to read, come first."""
    blocks = tl.cdiv(tokens, ROWS)
    pairs = tl.num_programs(0) // blocks
    first = (blocks - 1 - tl.program_id(0) // pairs) * ROWS
    document = tl.program_id(0) % pairs // HEADS
    head = tl.program_id(0) % HEADS
    length = tl.load(lengths + document)
    row = first + tl.arange(0, ROWS)
    real = row < length
    width = tl.arange(0, WIDTH)
    query += document.to(tl.int64) * query_document + head * query_head
    key += document.to(tl.int64) * key_document + head // GROUP * key_head
    value += document.to(tl.int64) * value_document + head // GROUP * value_head
    q = tl.load(query + row[:, None] * query_token + width[None, :], mask=real[:, None], other=0.0)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, WIDTH], tl.float32)
    begin = tl.maximum(first - window + 1, 0) // COLUMNS * COLUMNS
    end = tl.where(first < length, tl.minimum(first + ROWS, length), 0)
    for start in range(begin, end, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        inside = column < length
        k = tl.load(key + column[None, :] * key_token + width[:, None], mask=inside[None, :], other=0.0)
        score = dot(q, k, tl.zeros([ROWS, COLUMNS], tl.float32), WIDENED)
        # tanh(x) = 1 - 2 / (exp(2 x) + 1), right for infinity as well
        capped = 1.0 - 2.0 / (tl.exp2(score * (2.0 * LOG2_E * SCALE / CAP)) + 1.0)
        visible = (column[None, :] <= row[:, None]) & (column[None, :] > row[:, None] - window)
        weight = tl.where(visible, tl.exp2(capped * (CAP * LOG2_E)), 0.0)
        v = tl.load(value + column[:, None] * value_token + width[None, :], mask=inside[:, None], other=0.0)
        weight = weight.to(v.dtype)
        total += tl.sum(weight.to(tl.float32), axis=1)  # of the rounded weights: those of a row sum to 1
        mixed = dot(weight, v, mixed, WIDENED)
    mixed = tl.where(real[:, None], mixed / tl.where(real, total, 1.0)[:, None], 0.0)
    output += document.to(tl.int64) * tokens * HEADS * WIDTH + head * WIDTH
    place = output + row[:, None] * (HEADS * WIDTH) + width[None, :]
    tl.store(place, mixed.to(output.dtype.element_ty), mask=(row < tokens)[:, None])


def soft_capped_attention(
    query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, *, scale: float, cap: float, window: int | None = None
) -> Tensor:
    """Attention whose scores are capped: softmax(cap * tanh(scale * query key^T / cap)) value, over earlier positions.

    Products of the operands' dtype, everything between them in float32. The weights of the softmax are rounded to the
    dtype before they are divided by their sum.

    Args:
        query: [documents, heads, tokens, size]; contiguous in its last dimension, as key and value.
        key: [documents, key heads, tokens, size]; a key head serves heads / key heads heads, which are neighbours.
        value: as key.
        lengths: int32 [documents]; positions from there on are padding. At least 1.
        scale: of the scores.
        cap: largest absolute score, `MAX_CAP` at most.
        window: a position sees itself and window - 1 positions before it; None: all before it.

    Returns:
        [documents, tokens, heads, size], contiguous, of the query's dtype; zeros at padding.
    """
    documents, heads, tokens, size = query.shape
    output = torch.empty((documents, tokens, heads, size), dtype=query.dtype, device=query.device)
    programs = -(-tokens // TILE["ROWS"]) * documents * heads
    with torch.cuda.device_of(query):  # Triton launches on the current device
        launch(
            attention_kernel, programs,
            query, key, value, output, lengths, tokens, tokens if window is None else min(window, tokens),
            *query.stride()[:3], *key.stride()[:3], *value.stride()[:3],
            SCALE=scale, CAP=cap, HEADS=heads, GROUP=heads // key.shape[1], WIDTH=size, WIDENED=INTERPRETED, **TILE,
        )  # fmt: skip
    return output
