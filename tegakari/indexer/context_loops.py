"""Loops that select the contexts of features from the entries of all shards, compiled by numba without the GIL."""

from __future__ import annotations

import numpy as np

from tegakari.kernels.cpu.loops import compiled
from tegakari.store.contexts import POOL_DOCUMENTS, TENTH_CONTEXTS, TENTHS, WINDOW


@compiled
def select_contexts(starts, entries, priority, strongest, tokens, counts, numbers, values):
    """Select the contexts of features: their strongest positions and a sample.

    A pair is the entries of one document in one feature; they are consecutive.

    Args:
        starts: int64 [shards, features + 1], first entry of each shard and feature.
        entries: document int32 [N], position int32 [N] and rounded activation float32 [N] of all shards, shard after
            shard, by (feature, document, position); a document is in one shard.
        priority: int64 [N], of the entry's pair.
        strongest: document and position of the strongest positions, int32 [features, n] each, strongest first; -1 =
            none.
        tokens: int64 [documents], tokens of each document.
        counts: int64 [features], receives the contexts of each feature.
        numbers: int32 [features, n + TENTHS * TENTH_CONTEXTS, 6], receives quantile, rank, document, position, start
            and length of each context.
        values: float32 [features, as above, 1 + 2 * WINDOW + 1], zeros; receives the activation of each context and
            those of its window.
    """
    document, position, activation = entries
    top_document, top_position = strongest
    most = 0
    for feature in range(len(counts)):
        most = max(most, (starts[:, feature + 1] - starts[:, feature]).sum())
    first, stop = np.empty(most, np.int64), np.empty(most, np.int64)
    documents, priorities = np.empty(most, np.int64), np.empty(most, np.int64)
    for feature in range(len(counts)):
        pairs = 0
        for shard in range(len(starts)):
            for i in range(starts[shard, feature], starts[shard, feature + 1]):
                if i == starts[shard, feature] or document[i] != document[i - 1]:
                    first[pairs], documents[pairs], priorities[pairs] = i, document[i], priority[i]
                    pairs += 1
                stop[pairs - 1] = i + 1
        count = 0
        for i in range(top_document.shape[1]):
            if top_document[feature, i] >= 0:
                row = numbers[feature, count]
                row[0], row[1], row[2], row[3] = 0, i + 1, top_document[feature, i], top_position[feature, i]
                count += 1
        count = _sample(np.argsort(priorities[:pairs])[:POOL_DOCUMENTS], first, stop, entries, numbers[feature], count)
        counts[feature] = count
        by_document = np.argsort(documents[:pairs])
        sorted_documents = documents[:pairs][by_document]
        for j in range(count):
            row = numbers[feature, j]
            row[4] = max(0, row[3] - WINDOW)
            row[5] = min(tokens[row[2]], row[3] + WINDOW + 1) - row[4]
            place = np.searchsorted(sorted_documents, row[2])
            if place < pairs and sorted_documents[place] == row[2]:
                pair = by_document[place]
                for i in range(first[pair], stop[pair]):
                    offset = position[i] - row[4]
                    if 0 <= offset < row[5]:
                        values[feature, j, 1 + offset] = activation[i]
            values[feature, j, 0] = values[feature, j, 1 + row[3] - row[4]]


@compiled
def _sample(drawn, first, stop, entries, numbers, count):
    """Write the sample of a feature behind `count` contexts; returns the new number.

    Args:
        drawn: pairs by priority, at most POOL_DOCUMENTS.
        first: first entry of each pair.
        stop: entry after the last of each pair.
        entries: as of `select_contexts`.
        numbers: of the feature.
        count: contexts that are written.
    """
    document, position, activation = entries
    bits = activation.view(np.uint32)  # in the order of positive floats
    top = np.empty(len(drawn), np.int64)
    strength = np.empty(len(drawn), np.uint64)
    for place in range(len(drawn)):
        best = first[drawn[place]]
        for i in range(best + 1, stop[drawn[place]]):
            if activation[i] > activation[best]:  # of equal ones the first
                best = i
        top[place] = best
        strength[place] = (np.uint64(bits[best]) << np.uint64(32)) | np.uint64(document[best])
    by_strength = np.argsort(strength)
    for tenth in range(TENTHS):
        members = np.sort(by_strength[len(drawn) * tenth // TENTHS : len(drawn) * (tenth + 1) // TENTHS])  # by priority
        for rank in range(min(TENTH_CONTEXTS, len(members))):
            row = numbers[count]
            row[0], row[1] = tenth + 1, rank + 1
            row[2], row[3] = document[top[members[rank]]], position[top[members[rank]]]
            count += 1
    return count
