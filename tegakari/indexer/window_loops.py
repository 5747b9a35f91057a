"""Loops on a CPU that select the activations in windows of tokens, compiled by numba without the GIL."""

from __future__ import annotations

import numpy as np

from tegakari.kernels.cpu.loops import compiled


@compiled
def ascends(feature, position, features):
    """Whether the entries of each feature are in the order of their positions.

    Args:
        feature: int32 [n].
        position: int32 [n].
        features: their number.
    """
    last = np.full(features, -1, np.int32)
    for i in range(len(feature)):
        if position[i] < last[feature[i]]:
            return False
        last[feature[i]] = position[i]
    return True


@compiled
def by_feature(entries, row, pairs):
    """Order the entries of some pairs of a document and a feature by (feature, position), in one counting sort.

    Args:
        entries: feature int32 [n], position int32 [n] and activation float32 [n]; those of a feature by position.
        row: int64 [T], row of the document of each position.
        pairs: bool [D, d_sae].

    Returns:
        position and activation of the entries, and where those of each feature begin, int64 [d_sae + 1].
    """
    feature, position, activation = entries
    starts = np.zeros(pairs.shape[1] + 2, np.int64)
    for i in range(len(feature)):
        starts[feature[i] + 2] += np.int64(pairs[row[position[i]], feature[i]])
    starts = np.cumsum(starts)
    at, values = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    for i in range(len(feature)):
        if pairs[row[position[i]], feature[i]]:
            place = starts[feature[i] + 1]
            at[place], values[place] = position[i], activation[i]
            starts[feature[i] + 1] = place + 1
    return at, values, starts[:-1]


@compiled
def in_windows(at, values, bits, starts, row, token, is_drawn, cut, window):
    """Select the entries near a centre of their pair of feature and document.

    Centres are the entries at or above the cut of their feature and, of drawn pairs, the first of the largest. The last
    row of a document may be out of the order of tokens: then it counts as near to all, which selects more than needed.

    Args:
        at: int32 [n], position of each entry, from `by_feature`; receives those of the selected entries.
        values: float32 [n], activations, likewise.
        bits: int32 [n], their rounded bits.
        starts: int64 [d_sae + 1], first entry of each feature.
        row: int64 [T], row of the document of each position.
        token: int32 [T], token index of each position.
        is_drawn: bool [D, d_sae].
        cut: float32 [d_sae].
        window: tokens on each side of a centre.

    Returns:
        feature of the selected entries, int32; `at` and `values` begin with theirs.
    """
    features = np.empty(len(at), np.int32)
    selected = 0
    for feature in range(len(cut)):
        begin = starts[feature]
        while begin < starts[feature + 1]:
            document = row[at[begin]]
            best, end = begin, begin + 1
            while end < starts[feature + 1] and row[at[end]] == document:
                # Of equals, the first token: the row that the head reads is the last, wherever its token is.
                if bits[end] > bits[best] or (bits[end] == bits[best] and token[at[end]] < token[at[best]]):
                    best = end
                end += 1
            if not is_drawn[document, feature]:
                best = -1
            # The token of the last row if that is a centre, whose window may be of entries long before it.
            is_centre = values[end - 1] >= cut[feature] or best == end - 1
            head = token[at[end - 1]] if is_centre else -window - 1
            reached, left = -1, begin  # last token of a window so far; first entry that is not decided
            for i in range(begin, end):
                here = token[at[i]]
                if values[i] >= cut[feature] or i == best:
                    while left < i:  # entries before the centre
                        if token[at[left]] >= here - window or abs(token[at[left]] - head) <= window:
                            features[selected], at[selected], values[selected] = feature, at[left], values[left]
                            selected += 1
                        left += 1
                    reached = here + window
                if here <= reached:
                    features[selected], at[selected], values[selected] = feature, at[i], values[i]
                    selected += 1
                    left = i + 1
            begin = end
    return features[:selected]


@compiled
def order_by_rank(feature, rank, features, ranks):
    """Indices of entries by (feature, rank), in two counting sorts.

    Args:
        feature: int32 [n].
        rank: int32 [n].
        features: their number.
        ranks: their number.
    """
    starts = np.zeros(ranks + 1, np.int64)
    for i in range(len(rank)):
        starts[rank[i] + 1] += 1
    starts = np.cumsum(starts)
    by_rank = np.empty(len(rank), np.int32)
    for i in range(len(rank)):
        by_rank[starts[rank[i]]] = i
        starts[rank[i]] += 1
    ends = np.zeros(features + 1, np.int64)
    for i in range(len(feature)):
        ends[feature[i] + 1] += 1
    ends = np.cumsum(ends)
    order = np.empty(len(feature), np.int32)
    for i in by_rank:
        order[ends[feature[i]]] = i
        ends[feature[i]] += 1
    return order
