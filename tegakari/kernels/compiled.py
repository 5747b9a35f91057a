"""The CPU's pass over a chunk of products, compiled by numba.

Every function releases the GIL and writes only what belongs to its range of features or rows, so the caller may run
ranges on threads; no result depends on how the ranges are cut. The inner loops are written so that LLVM turns them into
vector instructions (np.maximum, float counts: an integer count or `a if a > b else b` stays scalar and costs twice).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import overload

BLOCK = 1024
"""Features at a time: a block's accumulators stay in the first-level cache while the chunk's rows stream through."""
ZERO, ONE = np.float32(0), np.float32(1)
NO, YES = np.int32(0), np.int32(1)
CLEAR, SET = np.uint8(0), np.uint8(1)
HALF, NEARLY = np.float32(0.5), np.float32(0.95)
STEPS = 24
"""Guesses after which the candidates are taken as they are, many or not."""
LARGEST = np.float32(np.finfo(np.float32).max)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the GIL, kept on disk where the machine has a place for it."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # a read-only installation and no home directory
        return njit(nogil=True)(function)


def widened(product, scratch):
    """One row's products as float32: as they are, or bfloat16 bit patterns widened into `scratch`."""
    raise NotImplementedError


@overload(widened)
def _widened(product, scratch):
    if product.dtype != types.uint16:
        return lambda product, scratch: product

    def widen(product, scratch):
        bits = scratch.view(np.uint32)
        for j in range(len(product)):
            bits[j] = np.uint32(product[j]) << np.uint32(16)
        return scratch[: len(product)]

    return widen


@compiled
def gate(product, scale, shift, opening, threshold, activation):
    """Activations of one row and block; returns whether a pre-activation was NaN or infinite (0 or 1)."""
    bad = NO
    for j in range(len(product)):
        value = product[j] * scale[j] + shift[j]
        bad |= NO if abs(value) <= LARGEST else YES
        open_ = (value > threshold[j]) & (product[j] + opening[j] > ZERO)
        activation[j] = value if open_ else ZERO
    return bad


@compiled
def keep_largest(activation, value, feature):
    """Zero what TopK leaves out: below `value`, or equal to it and above position `feature`."""
    for j in range(len(activation)):
        a = activation[j]
        activation[j] = a if (a > value) | ((a == value) & (j <= feature)) else ZERO


@compiled
def accumulate(activation, count, total, maximum):
    """Add one row's activations to a document's."""
    for j in range(len(activation)):
        a = activation[j]
        maximum[j] = np.maximum(maximum[j], a)
        total[j] += a
        count[j] += ONE if a > ZERO else ZERO


@compiled
def flagged(flags, n, found):
    """Write the positions of the first n flags that are set to `found`; returns how many. Both have room for n + 8."""
    flags[n : n + 8] = 0
    words = flags.view(np.uint64)  # eight flags are looked at together: most words are empty
    m = 0
    for word in range((n + 7) // 8):
        if words[word] != 0:
            for j in range(8 * word, 8 * word + 8):
                found[m] = j
                m += np.int64(flags[j])
    return m


@compiled
def emit(activation, floor, first_feature, position, into, n, flags, found):
    """Append the activations that are > 0 and >= floor to `into` (feature, position, activation) from entry n on.

    Returns the new n.
    """
    features, positions, activations = into
    for j in range(len(activation)):
        flags[j] = SET if (activation[j] >= floor[j]) & (activation[j] > ZERO) else CLEAR
    m = flagged(flags, len(activation), found)
    for i in range(m):
        j = found[i]
        features[n + i] = first_feature + j
        positions[n + i] = position
        activations[n + i] = activation[j]
    return n + m


@compiled
def pool(product, first, lo, hi, gates, cuts, offsets, pooled, columns, carry, floor, survivors, pairs, per_block):
    """Gate, pool, count and emit features lo:hi of one chunk in one read.

    Args:
        product: [n, d_sae] float32, or uint16 holding bfloat16.
        first: row of the residual that is the chunk's row 0.
        lo: first feature.
        hi: last feature + 1.
        gates: scale, shift, opening, threshold, each [d_sae] float32: a = product * scale + shift, active where
            a > threshold and product + opening > 0.
        cuts: for TopK the value [n] float32 and feature [n] int64 of each row's last active entry; else empty.
        offsets: [D + 1] int64 of the documents.
        pooled: last, max, mean [D, d_sae] float32, written.
        columns: count int64, total float64, maximum float32, each [d_sae], added to.
        carry: [d_sae] float64, the sum so far of the document that the previous chunk cut.
        floor: [d_sae] float32, or empty: no survivors.
        survivors: feature int32, position int32, activation float32, n * (hi - lo) entries each, or none.
        pairs: likewise.
        per_block: [n, blocks] int32, pairs of a row and block, written if pairs are wanted.

    Returns:
        survivors, pairs, whether a pre-activation was NaN or infinite.
    """
    scale, shift, opening, threshold = gates
    cut_value, cut_feature = cuts
    last, maximum, mean = pooled
    column_count, column_total, column_maximum = columns
    end = first + len(product)
    first_document = np.searchsorted(offsets, first, side="right") - 1
    zero_floor = np.zeros(BLOCK, np.float32)
    scratch, activation = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    count, part, peak = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    flags, found = np.empty(BLOCK + 8, np.uint8), np.empty(BLOCK + 8, np.int64)
    n_survivors, n_pairs, bad = 0, 0, NO
    for block, a in enumerate(range(lo, hi, BLOCK)):
        b = min(a + BLOCK, hi)
        width = b - a
        act = activation[:width]
        count[:] = ZERO
        document = first_document
        start = first
        while start < end:
            stop = min(offsets[document + 1], end)
            part[:] = ZERO
            peak[:] = ZERO
            for position in range(start, stop):
                row = position - first
                values = widened(product[row, a:b], scratch)
                bad |= gate(values, scale[a:b], shift[a:b], opening[a:b], threshold[a:b], act)
                if len(cut_value):
                    keep_largest(act, cut_value[row], cut_feature[row] - a)
                accumulate(act, count[:width], part[:width], peak[:width])
                if len(floor):
                    n_survivors = emit(act, floor[a:b], a, position, survivors, n_survivors, flags, found)
                if per_block.size:
                    before = n_pairs
                    n_pairs = emit(act, zero_floor, a, position, pairs, n_pairs, flags, found)
                    per_block[row, block] = n_pairs - before
            if start > offsets[document]:
                for j in range(width):
                    maximum[document, a + j] = np.maximum(maximum[document, a + j], peak[j])
            else:
                maximum[document, a:b] = peak[:width]
                carry[a:b] = 0
            for j in range(width):
                carry[a + j] += part[j]
            if stop == offsets[document + 1]:
                length = stop - offsets[document]
                last[document, a:b] = act
                for j in range(width):
                    mean[document, a + j] = carry[a + j] / length
                    column_total[a + j] += carry[a + j]
                    column_maximum[a + j] = np.maximum(column_maximum[a + j], maximum[document, a + j])
            document += 1
            start = stop
        for j in range(width):
            column_count[a + j] += np.int64(count[j])
    return n_survivors, n_pairs, bad


@compiled
def count_above(activation, value):
    n = 0
    for j in range(len(activation)):
        n += 1 if activation[j] > value else 0
    return n


@compiled
def cut_rows(product, lo, hi, k, gates, values, features):
    """Find value and feature of the k-th largest activation of rows lo:hi; 0 and -1 where no more than k are active.

    The previous row's value is a good guess at this one's: mostly one count narrows a row to little more than k
    candidates.
    """
    scale, shift, opening, threshold = gates
    width = product.shape[1]
    activation, scratch = np.empty(width, np.float32), np.empty(width, np.float32)
    flags, found = np.empty((width + 15) // 8 * 8, np.uint8), np.empty(width + 16, np.int64)
    guess = ONE
    for row in range(lo, hi):
        gate(widened(product[row], scratch), scale, shift, opening, threshold, activation)
        values[row], features[row] = ZERO, -1
        if count_above(activation, ZERO) <= k:
            continue
        below, above = ZERO, ZERO
        for _ in range(STEPS):
            n = count_above(activation, guess)
            if n < k:
                above = guess
            else:
                below = guess
                if n <= 2 * k + 64:
                    break
            guess = (below + above) * HALF if above > ZERO else guess + guess
        for j in range(width):
            flags[j] = SET if activation[j] > below else CLEAR
        candidates = activation[found[: flagged(flags, width, found)]]
        value = np.partition(candidates, len(candidates) - k)[len(candidates) - k]
        left = k - np.sum(candidates > value)
        for i in range(len(candidates)):
            if candidates[i] == value:
                left -= 1
                if left == 0:
                    features[row] = found[i]
                    break
        values[row] = value
        guess = value * NEARLY


@compiled
def place(per_block, starts, pairs, feature, activation):
    """Move one range's pairs, block after block, to where their rows begin in the CSR."""
    features, _, activations = pairs
    source = 0
    for block in range(per_block.shape[1]):
        for row in range(per_block.shape[0]):
            n = per_block[row, block]
            target = starts[row, block]
            feature[target : target + n] = features[source : source + n]
            activation[target : target + n] = activations[source : source + n]
            source += n


@compiled
def sort_survivors(feature, position, activation, lo, hi):
    """Sort one range's survivors in place by (feature, activation descending, position)."""
    starts = np.zeros(hi - lo + 1, np.int64)
    for f in feature:
        starts[f - lo + 1] += 1
    starts = np.cumsum(starts)
    cursor = starts.copy()
    keys = np.empty(len(feature), np.uint64)
    bits = activation.view(np.uint32)
    for i in range(len(feature)):
        # Positive floats order like their bit patterns.
        keys[cursor[feature[i] - lo]] = (np.uint64(~bits[i]) << np.uint64(32)) | np.uint64(position[i])
        cursor[feature[i] - lo] += 1
    for f in range(hi - lo):
        group = keys[starts[f] : starts[f + 1]]
        group.sort()
        for i in range(starts[f], starts[f + 1]):
            feature[i] = lo + f
            position[i] = np.int32(keys[i] & np.uint64(0xFFFFFFFF))
            bits[i] = ~np.uint32(keys[i] >> np.uint64(32))
