"""Triton kernels that read products or packed rows: pool, count and gate; then move what was found to its place.

Shapes in the comments: n rows of the chunk, d_sae features, D documents, B = ceil(d_sae / BLOCK) blocks of features,
padded = B * BLOCK. No kernel uses atomics: every output element has one writer.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tegakari.kernels.gpu.packing import LARGEST, gate_of, gated, packed, ranks_of, unpacked, values_of

# Triton reads these functions and Python never runs them, so the types Python sees in them mislead.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false

BAD_STEP = tl.constexpr(2**14)
"""A NaN or infinity counts as this many active positions, more than a chunk has rows: one accumulator fewer to keep."""


@triton.jit
def tile_of(
    source,  # [n, d_sae] products, or values [n, padded] if PACKED
    bits,  # [n, padded / 32]
    cut_value,  # [n]
    cut_feature,  # [n]
    scale,  # [BLOCK], of these features
    bias,
    shift,
    threshold,
    row,  # [ROWS]
    row_mask,
    feature,  # [BLOCK]
    block,
    d_sae,
    blocks,
    PACKED: tl.constexpr,
    GATED: tl.constexpr,
    TOP_K: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    SEGMENT: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Activations [ROWS, BLOCK] of some rows and a block, and which of them come from NaN or infinity."""
    rows = row.to(tl.int64)[:, None]
    mask = row_mask[:, None] & (feature < d_sae)[None, :]
    if PACKED:
        word = block * (BLOCK // 32) + tl.arange(0, BLOCK // 32)
        words = tl.load(bits + rows * (blocks * (BLOCK // 32)) + word[None, :], mask=row_mask[:, None], other=0)
        active = unpacked(words, ROWS, BLOCK)
        activation = values_of(source, words, active, rows, feature, blocks * BLOCK, ROWS, BLOCK, SEGMENT, INTERPRETED)
        bad = active & False
    else:
        product = tl.load(source + rows * d_sae + feature[None, :], mask=mask, other=0.0).to(tl.float32)
        value, active = gated(product, scale, bias, shift, threshold, GATED)
        if TOP_K:
            least = tl.load(cut_value + row, mask=row_mask, other=0.0)[:, None]
            last_tie = tl.load(cut_feature + row, mask=row_mask, other=0)[:, None]
            active = active & ((value > least) | ((value == least) & (feature[None, :] <= last_tie)))
        activation = tl.where(active & mask, value, 0.0)
        bad = mask & ~(tl.abs(value) <= LARGEST)
    return activation, bad


@triton.jit
def pool_kernel(
    source,  # [n, d_sae] products, or values [n, padded] float32 if PACKED
    bits,  # [n, padded / 32] int32: read if PACKED, else written if PAIRS or SURVIVORS
    scale,  # [d_sae] float32, if GATED
    bias,  # [d_sae] float32
    shift,  # [d_sae] float32, if GATED
    threshold,  # [d_sae] float32
    cut_value,  # [n] float32, if TOP_K
    cut_feature,  # [n] int32, if TOP_K
    floor,  # [d_sae] float32, if SURVIVORS
    offsets,  # [D + 1] int64
    last,  # [D, d_sae] float32, as are the next two
    maximum,
    total,  # sum, of which the caller makes the mean
    count,  # [D, d_sae] int32
    pairs,  # [n, B] int32, if PAIRS
    survivors,  # [n, B] int32, if SURVIVORS
    flags,  # [D, B] int32
    first,  # position of the chunk's row 0
    n,
    positions,
    documents,
    d_sae,
    blocks,
    PACKED: tl.constexpr,
    GATED: tl.constexpr,
    TOP_K: tl.constexpr,
    PAIRS: tl.constexpr,
    SURVIVORS: tl.constexpr,
    ROWS: tl.constexpr,
    STAGES: tl.constexpr,
    BLOCK: tl.constexpr,
    SEGMENT: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """One document and one block: pool, count, gate and pack the document's rows of this chunk in one read.

    Packs every active pair if PAIRS, else the survivors. A document that the previous chunk cut goes on from what that
    chunk stored. Offsets are clamped to the chunk, so wrong ones raise a flag and read nothing that is not theirs.
    """
    block = tl.program_id(0) % blocks
    document = tl.program_id(0) // blocks
    begin = tl.load(offsets + document)
    finish = tl.load(offsets + document + 1)
    start = (tl.maximum(begin, first) - first).to(tl.int32)
    stop = (tl.minimum(finish, first + n) - first).to(tl.int32)
    feature = block * BLOCK + tl.arange(0, BLOCK)
    inside = feature < d_sae
    scale, bias, shift, threshold = gate_of(scale, bias, shift, threshold, feature, inside, GATED)
    flag = tl.max((~(tl.abs(bias) <= LARGEST) | ~(threshold >= 0)).to(tl.int32), axis=0)
    wrong = (finish <= begin) | ((document == 0) & (begin != 0))
    wrong = wrong | ((document == documents - 1) & (finish != positions))
    flag = flag | wrong.to(tl.int32)
    if start < stop:
        if SURVIVORS:
            least = tl.load(floor + feature, mask=inside, other=0.0)[None, :]
        peak = tl.zeros([ROWS, BLOCK], tl.float32)
        part = tl.zeros([ROWS, BLOCK], tl.float32)
        seen = tl.zeros([ROWS, BLOCK], tl.int32)
        for tile in tl.range(start, stop, ROWS, num_stages=STAGES):
            row = tile + tl.arange(0, ROWS)
            row_mask = row < stop
            activation, bad = tile_of(
                source, bits, cut_value, cut_feature, scale, bias, shift, threshold, row, row_mask, feature, block,
                d_sae, blocks, PACKED, GATED, TOP_K, ROWS, BLOCK, SEGMENT, INTERPRETED,
            )  # fmt: skip
            active = activation > 0
            peak = tl.maximum(peak, activation)
            part += activation
            seen += active.to(tl.int32) + bad.to(tl.int32) * BAD_STEP
            counts_at = row.to(tl.int64) * blocks + block
            emitted = active
            # Counts are summed as float32: LLVM packs a mask that is summed as integers into bytes on the stack.
            if SURVIVORS:
                surviving = active & (activation >= least)
                tl.store(survivors + counts_at, tl.sum(surviving.to(tl.float32), axis=1).to(tl.int32), mask=row_mask)
                emitted = active if PAIRS else surviving
            if PAIRS:
                tl.store(pairs + counts_at, tl.sum(active.to(tl.float32), axis=1).to(tl.int32), mask=row_mask)
            if (PAIRS or SURVIVORS) and not PACKED:
                words = packed(emitted, ROWS, BLOCK)
                word = block * (BLOCK // 32) + tl.arange(0, BLOCK // 32)
                word_at = bits + row.to(tl.int64)[:, None] * (blocks * (BLOCK // 32)) + word[None, :]
                tl.store(word_at, words, mask=row_mask[:, None])
        top = tl.max(peak, axis=0)
        sum_ = tl.sum(part, axis=0)
        number = tl.sum(seen, axis=0)
        flag = flag | (tl.max(number, axis=0) >= BAD_STEP).to(tl.int32)
        number = number % BAD_STEP
        at = document.to(tl.int64) * d_sae + feature
        if begin < first:
            top = tl.maximum(top, tl.load(maximum + at, mask=inside, other=0.0))
            sum_ += tl.load(total + at, mask=inside, other=0.0)
            number += tl.load(count + at, mask=inside, other=0)
        tl.store(maximum + at, top, mask=inside)
        tl.store(total + at, sum_, mask=inside)
        tl.store(count + at, number, mask=inside)
        final, _ = tile_of(
            source, bits, cut_value, cut_feature, scale, bias, shift, threshold, stop - 1 + tl.arange(0, 1),
            tl.arange(0, 1) < 1, feature, block, d_sae, blocks, PACKED, GATED, TOP_K, 1, BLOCK, SEGMENT, INTERPRETED,
        )  # fmt: skip
        tl.store(last + at, tl.reshape(final, [BLOCK]), mask=inside)
    flag_at = flags + document.to(tl.int64) * blocks + block
    tl.store(flag_at, tl.load(flag_at) | flag)


@triton.jit
def place_kernel(
    source,  # [n, d_sae] products, or values [n, padded] float32 if PACKED
    bits,  # [n, padded / 32] int32
    scale,  # [d_sae] float32, if GATED
    bias,  # [d_sae] float32
    shift,  # [d_sae] float32, if GATED
    floor,  # [d_sae] float32, if SURVIVORS
    pair_starts,  # [n, B] int64, if PAIRS: where the pairs of a row and block begin
    survivor_starts,  # [n, B] int64, if SURVIVORS
    pair_feature,  # [pair_capacity] int32
    pair_activation,  # [pair_capacity] float32
    survivor_feature,  # [survivor_capacity] int32
    survivor_position,  # [survivor_capacity] int32
    survivor_activation,  # [survivor_capacity] float32
    pair_capacity,
    survivor_capacity,
    first,
    n,
    d_sae,
    blocks,
    PACKED: tl.constexpr,
    GATED: tl.constexpr,
    PAIRS: tl.constexpr,
    SURVIVORS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    SEGMENT: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Move what the bits say to its place in CSR and in the list of survivors. What does not fit is left out."""
    block = tl.program_id(0) % blocks
    row = tl.program_id(0) // blocks * ROWS + tl.arange(0, ROWS)
    row_mask = row < n
    rows = row.to(tl.int64)[:, None]
    feature = block * BLOCK + tl.arange(0, BLOCK)
    word = block * (BLOCK // 32) + tl.arange(0, BLOCK // 32)
    words = tl.load(bits + rows * (blocks * (BLOCK // 32)) + word[None, :], mask=row_mask[:, None], other=0)
    active = unpacked(words, ROWS, BLOCK)
    rank = ranks_of(words, ROWS, BLOCK, BLOCK, INTERPRETED)
    inside = feature < d_sae
    if PACKED:
        activation = values_of(source, words, active, rows, feature, blocks * BLOCK, ROWS, BLOCK, SEGMENT, INTERPRETED)
    else:
        # Few bits are set, and what they need of the chunk is mostly still in the second-level cache.
        product = tl.load(source + rows * d_sae + feature[None, :], mask=active, other=0.0).to(tl.float32)
        scale, bias, shift, _ = gate_of(scale, bias, shift, bias, feature, inside, GATED)
        activation, _ = gated(product, scale, bias, shift, bias, GATED)
    features = tl.broadcast_to(feature[None, :], [ROWS, BLOCK])
    counts_at = row.to(tl.int64) * blocks + block
    if PAIRS:
        target = tl.load(pair_starts + counts_at, mask=row_mask, other=0)[:, None] + rank
        fits = active & (target < pair_capacity)
        tl.store(pair_feature + target, features, mask=fits)
        tl.store(pair_activation + target, activation, mask=fits)
    if SURVIVORS:
        surviving = active
        order = rank
        if PAIRS or PACKED:  # the bits are of every active pair
            surviving = active & (activation >= tl.load(floor + feature, mask=inside, other=0.0)[None, :])
            order = ranks_of(packed(surviving, ROWS, BLOCK), ROWS, BLOCK, BLOCK, INTERPRETED)
        target = tl.load(survivor_starts + counts_at, mask=row_mask, other=0)[:, None] + order
        fits = surviving & (target < survivor_capacity)
        position = tl.broadcast_to((first + row)[:, None], [ROWS, BLOCK]).to(tl.int32)
        tl.store(survivor_feature + target, features, mask=fits)
        tl.store(survivor_position + target, position, mask=fits)
        tl.store(survivor_activation + target, activation, mask=fits)
