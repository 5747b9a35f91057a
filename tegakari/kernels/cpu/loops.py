"""The CPU's pass over a chunk of products, compiled by numba.

Every function releases the GIL and writes only what belongs to its range of features or rows, so the caller may run
ranges on threads; no result depends on how the ranges are cut. The inner loops are written so that LLVM turns
them into vector instructions: np.maximum, float counts and integers held to 32 bits. `a if a > b else b`, an integer
count, an integer that numba widens, or one loop over more arrays than LLVM tells apart cost two to three times as much.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

BLOCK = 1024
"""Features at a time: a block's accumulators stay in the first-level cache while the chunk's rows stream through."""
FEW = 24
"""Keys up to which an insertion sort is faster; most features have fewer survivors in a batch."""
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


@compiled
def gate(product, vectors, activation):
    """Activations of one row and block; returns whether a pre-activation was NaN or infinite (0 or 1)."""
    scale, shift, opening, threshold = vectors
    bad = NO
    for j in range(len(product)):
        value = product[j] * scale[j] + shift[j]
        bad = np.int32(bad | (NO if abs(value) <= LARGEST else YES))
        active = (value > threshold[j]) & (product[j] + opening[j] > ZERO)
        activation[j] = value if active else ZERO
    return bad


@compiled
def keep_largest(activation, value, feature):
    """Zero what TopK leaves out: below `value`, or equal to it and above position `feature`."""
    for j in range(len(activation)):
        a = activation[j]
        activation[j] = a if (a > value) | ((a == value) & (j <= feature)) else ZERO


@compiled
def accumulate(activation, sums):
    """Add one row's activations to a document's count, total and maximum."""
    count, total, maximum = sums
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
def pool(
    product, first, document, lo, hi, gates, cuts, offsets, pooled, columns, carry, floor, survivors, pairs, per_block
):
    """Gate, pool, count and emit features lo:hi of one chunk in one read.

    Args:
        product: [n, d_sae] float32.
        first: row of the residual that is the chunk's row 0.
        document: the one that this row belongs to.
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
    first_document = document
    zero_floor = np.zeros(BLOCK, np.float32)
    activation = np.empty(BLOCK, np.float32)
    count, part, peak = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    flags, found = np.empty(BLOCK + 8, np.uint8), np.empty(BLOCK + 8, np.int64)
    n_survivors, n_pairs, bad = 0, 0, NO
    for block, a in enumerate(range(lo, hi, BLOCK)):
        b = min(a + BLOCK, hi)
        width = b - a
        act = activation[:width]
        vectors = scale[a:b], shift[a:b], opening[a:b], threshold[a:b]
        sums = count[:width], part[:width], peak[:width]
        count.fill(ZERO)
        document = first_document
        start = first
        while start < end:
            stop = min(offsets[document + 1], end)
            part.fill(ZERO)
            peak.fill(ZERO)
            for position in range(start, stop):
                row = position - first
                bad |= gate(product[row, a:b], vectors, act)
                if len(cut_value):
                    keep_largest(act, cut_value[row], cut_feature[row] - a)
                accumulate(act, sums)
                if len(floor):
                    n_survivors = emit(act, floor[a:b], a, position, survivors, n_survivors, flags, found)
                if per_block.size:
                    before = n_pairs
                    n_pairs = emit(act, zero_floor, a, position, pairs, n_pairs, flags, found)
                    per_block[row, block] = n_pairs - before
            if start == offsets[document]:
                for j in range(width):
                    maximum[document, a + j] = ZERO
                    carry[a + j] = 0
            for j in range(width):
                maximum[document, a + j] = np.maximum(maximum[document, a + j], peak[j])
                carry[a + j] += part[j]
            if stop == offsets[document + 1]:
                length = stop - offsets[document]
                for j in range(width):
                    last[document, a + j] = act[j]
                    mean[document, a + j] = carry[a + j] / length
                    column_total[a + j] += carry[a + j]
                    column_maximum[a + j] = np.maximum(column_maximum[a + j], maximum[document, a + j])
            document += 1
            start = stop
        for j in range(width):
            column_count[a + j] += np.int64(count[j])
    return n_survivors, n_pairs, bad


@compiled
def key_of(bits, position):
    """A number that orders like (activation descending, position): positive floats order like their bit patterns."""
    return (np.uint64(~bits) << np.uint64(32)) | np.uint64(position)


@compiled
def position_of(key):
    return np.int32(key & np.uint64(0xFFFFFFFF))


@compiled
def count_above(activation, value):
    n = 0
    for j in range(len(activation)):
        n += 1 if activation[j] > value else 0
    return n


@compiled
def kth_smallest(keys, n, k):
    """Find the k-th smallest of n different keys bit by bit. As fast as a partition here, and compiles in a tenth."""
    key = np.uint64(0)
    for bit in range(63, -1, -1):
        trial = key | (np.uint64(1) << np.uint64(bit))
        smaller = 0
        for i in range(n):
            smaller += 1 if keys[i] < trial else 0
        if smaller < k:
            key = trial
    return key


@compiled
def cut_rows(product, lo, hi, k, gates, values, features):
    """Find value and feature of the k-th largest activation of rows lo:hi; 0 and -1 where no more than k are active.

    The previous row's value is a good guess at this one's: mostly one count narrows a row to little more than k
    candidates.
    """
    width = product.shape[1]
    activation = np.empty(width, np.float32)
    bits = activation.view(np.uint32)
    flags, found = np.empty((width + 15) // 8 * 8, np.uint8), np.empty(width + 16, np.int64)
    keys = np.empty(width, np.uint64)
    guess = ONE
    for row in range(lo, hi):
        gate(product[row], gates, activation)
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
        n = flagged(flags, width, found)
        for i in range(n):
            keys[i] = key_of(bits[found[i]], found[i])
        features[row] = position_of(kth_smallest(keys, n, k))
        values[row] = activation[features[row]]
        guess = values[row] * NEARLY


@compiled
def place(per_block, starts, pairs, feature, activation):
    """Move one range's pairs, block after block, to where their rows begin in the CSR."""
    features, _, activations = pairs
    source = 0
    for block in range(per_block.shape[1]):
        for row in range(per_block.shape[0]):
            n = per_block[row, block]
            target = starts[row, block]
            for i in range(n):
                feature[target + i] = features[source + i]
                activation[target + i] = activations[source + i]
            source += n


@compiled
def insertion_sort(keys):
    for i in range(1, len(keys)):
        key, j = keys[i], i
        while j > 0 and keys[j - 1] > key:
            keys[j] = keys[j - 1]
            j -= 1
        keys[j] = key


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
        keys[cursor[feature[i] - lo]] = key_of(bits[i], position[i])
        cursor[feature[i] - lo] += 1
    for f in range(hi - lo):
        group = keys[starts[f] : starts[f + 1]]
        if len(group) > FEW:
            group.sort()
        else:
            insertion_sort(group)
        for i in range(starts[f], starts[f + 1]):
            feature[i] = lo + f
            position[i] = position_of(keys[i])
            bits[i] = ~np.uint32(keys[i] >> np.uint64(32))


@compiled
def select_pairs(feature, position, activation, owner, pairs):
    """Select the entries of some pairs of a document and a feature, in their order.

    Args:
        feature: int32 [n].
        position: int32 [n].
        activation: float32 [n].
        owner: int64 [T], document of each position.
        pairs: bool [D, d_sae].

    Returns:
        feature, position and activation of the selected entries.
    """
    chosen = np.empty(len(feature), np.int32)
    selected = 0
    for i in range(len(feature)):
        chosen[selected] = i
        selected += np.int64(pairs[owner[position[i]], feature[i]])  # without a branch, which would be mispredicted
    chosen = chosen[:selected]
    return feature[chosen], position[chosen], activation[chosen]
