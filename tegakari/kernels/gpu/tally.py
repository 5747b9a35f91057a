"""Triton kernel that reads products once: pools, counts, and appends what survives the floor."""

from __future__ import annotations

import triton
import triton.language as tl

from tegakari.kernels.gpu.gate import gate_of, tile_of

# Triton reads these functions and Python never runs them, so the types Python sees in them mislead.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false


@triton.jit
def tally_kernel(
    product,  # [n, d_sae] float32, of a chunk of whole documents
    scale,  # [d_sae] float32, if GATED
    bias,  # [d_sae] float32
    shift,  # [d_sae] float32, if GATED
    threshold,  # [d_sae] float32
    cut_value,  # [n] float32, if TOP_K
    cut_feature,  # [n] int32, if TOP_K
    floor,  # [d_sae] float32, if SURVIVORS
    ordinary,  # [positions of the batch] bool, if OUTLIERS
    offsets,  # [D + 1] int64, of all documents of the batch
    last,  # [D of the shard, d_sae] float32, as are the next two
    maximum,
    total,  # sums, of which `gpu_finish` makes means
    positions,  # [D of the shard] int32
    count,  # [d_sae] int32
    pairs,  # [n, B] int32, if PAIRS: active features of each row and block
    fault,  # [] int32
    number,  # [] int64, survivors so far
    survivor_feature,  # [capacity] int32
    survivor_position,  # [capacity] int32
    survivor_activation,  # [capacity] float32
    capacity,
    first_document,  # of the chunk, in the batch
    first,  # position of the chunk's row 0 in the batch
    n,
    document_row,  # row of the batch's first document in the shard
    position_row,  # position of the batch's row 0 in the shard
    d_sae,
    blocks,
    GATED: tl.constexpr,
    TOP_K: tl.constexpr,
    OUTLIERS: tl.constexpr,
    PAIRS: tl.constexpr,
    SURVIVORS: tl.constexpr,
    ROWS: tl.constexpr,
    PLACED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One document and one block of features, in one warp: each lane owns a few features and meets no other lane.

    Survivors are counted in the pass that pools. Where there are any, they get their place with one atomic addition, and
    a second pass, which finds the rows in the second-level cache, moves them there. Their order depends on timing, so
    the caller sorts them; all other results have one writer, or are sums of integers. Offsets are clamped to the chunk:
    wrong ones raise `fault` and read nothing that is not theirs.
    """
    block = tl.program_id(0) % blocks
    document = first_document + tl.program_id(0) // blocks
    begin = tl.load(offsets + document)
    finish = tl.load(offsets + document + 1)
    start = (tl.maximum(begin, first) - first).to(tl.int32)
    stop = (tl.minimum(finish, first + n) - first).to(tl.int32)
    feature = block * BLOCK + tl.arange(0, BLOCK)
    inside = feature < d_sae
    scale, bias, shift, threshold = gate_of(scale, bias, shift, threshold, feature, inside, GATED)
    least = tl.zeros([BLOCK], tl.float32)
    if SURVIVORS:
        least = tl.load(floor + feature, mask=inside, other=0.0)
    # Numbers are summed as float32, of masks too: LLVM packs a mask that is summed as integers into bytes on the stack.
    peak = tl.zeros([BLOCK], tl.float32)
    sums = tl.zeros([BLOCK], tl.float32)
    active_rows = tl.zeros([BLOCK], tl.float32)
    surviving_rows = tl.zeros([BLOCK], tl.float32)
    poison = tl.zeros([BLOCK], tl.float32)
    regular = tl.zeros([ROWS], tl.int32)
    for tile in range(start, stop, ROWS):
        row = tile + tl.arange(0, ROWS)
        row_mask = row < stop
        if OUTLIERS:
            row_mask = row_mask & (tl.load(ordinary + first + row, mask=row_mask, other=0) != 0)
        value, active = tile_of(
            product, scale, bias, shift, threshold, cut_value, cut_feature, row, row_mask, feature, d_sae, GATED, TOP_K
        )
        activation = tl.where(active, value, 0.0)
        peak = tl.maximum(peak, tl.max(activation, axis=0))
        sums += tl.sum(activation, axis=0)
        active_rows += tl.sum(tl.where(active, 1.0, 0.0), axis=0)
        poison += tl.sum(value * 0.0, axis=0)  # NaN if one is NaN or infinite
        regular += row_mask.to(tl.int32)
        if PAIRS:
            pairs_of_rows = tl.sum(tl.where(active, 1.0, 0.0), axis=1).to(tl.int32)
            tl.store(pairs + row.to(tl.int64) * blocks + block, pairs_of_rows, mask=row < stop)
        if SURVIVORS:
            surviving_rows += tl.sum(tl.where(active & (value >= least[None, :]), 1.0, 0.0), axis=0)
    if SURVIVORS:
        survivors = surviving_rows.to(tl.int32)
        in_all = tl.sum(survivors, axis=0)
        if in_all > 0:
            begin_of_all = tl.atomic_add(number, in_all.to(tl.int64), sem="relaxed")
            room = tl.minimum(tl.maximum(capacity - begin_of_all, 0), 0x7FFFFFFF).to(tl.int32)
            place = tl.cumsum(survivors, axis=0) - survivors
            for tile in range(start, stop, PLACED):
                row = tile + tl.arange(0, PLACED)
                row_mask = row < stop
                if OUTLIERS:
                    row_mask = row_mask & (tl.load(ordinary + first + row, mask=row_mask, other=0) != 0)
                value, active = tile_of(
                    product, scale, bias, shift, threshold, cut_value, cut_feature, row, row_mask, feature, d_sae,
                    GATED, TOP_K,
                )  # fmt: skip
                survives = tl.where(active & (value >= least[None, :]), 1, 0)
                in_tile = tl.sum(survives, axis=0)
                if tl.max(in_tile, axis=0) > 0:
                    to = place[None, :] + tl.cumsum(survives, axis=0) - 1
                    fits = (survives > 0) & (to < room)
                    position = (position_row + first + row)[:, None] + tl.zeros([1, BLOCK], tl.int32)
                    features = feature[None, :] + tl.zeros([PLACED, 1], tl.int32)
                    tl.store(survivor_feature + begin_of_all + to, features, mask=fits)
                    tl.store(survivor_position + begin_of_all + to, position, mask=fits)
                    tl.store(survivor_activation + begin_of_all + to, value, mask=fits)
                    place += in_tile
    at_row = (document_row + document).to(tl.int64)
    at = at_row * d_sae + feature
    tl.store(maximum + at, peak, mask=inside)
    tl.store(total + at, sums, mask=inside)
    tl.atomic_add(count + feature, active_rows.to(tl.int32), mask=inside & (active_rows > 0), sem="relaxed")
    head = stop - 1 + tl.arange(0, 1)
    head_mask = head >= start
    if OUTLIERS:
        head_mask = head_mask & (tl.load(ordinary + first + head, mask=head_mask, other=0) != 0)
    value, active = tile_of(
        product, scale, bias, shift, threshold, cut_value, cut_feature, head, head_mask, feature, d_sae, GATED, TOP_K
    )
    tl.store(last + at, tl.reshape(tl.where(active, value, 0.0), [BLOCK]), mask=inside)
    if block == 0:
        tl.store(positions + at_row, tl.sum(regular, axis=0))
    wrong = (finish - begin != stop - start) | (stop <= start)
    wrong = wrong | ((tl.program_id(0) < blocks) & (begin != first))
    wrong = wrong | ((tl.program_id(0) >= tl.num_programs(0) - blocks) & (finish != first + n))
    bad = (poison != 0.0) | ~(tl.abs(bias) < float("inf")) | ~(threshold >= 0)
    if wrong | (tl.max(bad.to(tl.int32), axis=0) > 0):
        tl.atomic_max(fault, (at_row + 1).to(tl.int32), sem="relaxed")
