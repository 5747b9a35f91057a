"""Loops on a CPU that select the activations in windows of tokens, compiled by numba without the GIL."""

from __future__ import annotations

import numpy as np

from tegakari.kernels.cpu.loops import compiled


@compiled
def in_windows(entries, rank, row, token, is_drawn, cut, window):
    """Select the entries near a centre of their pair of feature and document, by (feature, rank).

    Centres are the entries at or above the cut of their feature and, of drawn pairs, the first of the largest.

    Args:
        entries: feature int32 [n], position int32 [n], activation float32 [n] and its rounded bits int32 [n], in any
            order; all of every pair that is drawn or has an entry at or above the cut.
        rank: int32 [T], order of the positions by (document, token).
        row: int32 [T], row of the document of each position.
        token: int32 [T], token index of each position.
        is_drawn: bool [D, d_sae].
        cut: float32 [d_sae].
        window: tokens on each side of a centre.

    Returns:
        feature, position and activation of the selected entries.
    """
    feature, position, activation, bits = entries
    n = len(feature)
    # Two stable counting sorts: by rank, then by feature.
    starts = np.zeros(len(rank) + 1, np.int64)
    for i in range(n):
        starts[rank[position[i]] + 1] += 1
    starts = np.cumsum(starts)
    by_rank = np.empty(n, np.int32)
    for i in range(n):
        place = rank[position[i]]
        by_rank[starts[place]] = i
        starts[place] += 1
    ends = np.zeros(len(cut) + 1, np.int64)
    for i in range(n):
        ends[feature[i] + 1] += 1
    ends = np.cumsum(ends)
    order = np.empty(n, np.int32)
    for i in by_rank:
        order[ends[feature[i]]] = i
        ends[feature[i]] += 1
    selected = 0
    begin = 0
    while begin < n:
        first = order[begin]
        document, of = row[position[first]], feature[first]
        best, end = first, begin + 1
        while end < n and feature[order[end]] == of and row[position[order[end]]] == document:
            if bits[order[end]] > bits[best]:
                best = order[end]
            end += 1
        drawn = is_drawn[document, of]
        reached, left = -1, begin  # last token of a window so far; first entry that is not decided
        for k in range(begin, end):
            i = order[k]
            at = token[position[i]]
            if activation[i] >= cut[of] or (drawn and i == best):
                while left < k:  # entries before the centre
                    if token[position[order[left]]] >= at - window:
                        order[selected] = order[left]
                        selected += 1
                    left += 1
                reached = at + window
            if at <= reached:
                while left < k:
                    left += 1
                order[selected] = i
                selected += 1
                left = k + 1
        begin = end
    chosen = order[:selected]
    return feature[chosen], position[chosen], activation[chosen]
