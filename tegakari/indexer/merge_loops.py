"""Loops over activations and candidates, compiled by numba without the GIL, so that layers are merged on threads.

The strongest entries of a group (positions of a feature, features of a document) are a row of a matrix of keys. A key
is an activation above an inverted entry: a larger key is a larger activation, or an equal one with a smaller entry. No
entry is 0. A row to which entries are added is a heap with its smallest key first; a row of zeros is an empty heap.
"""

from __future__ import annotations

import numpy as np

from tegakari.kernels.cpu.loops import compiled

ENTRY_BITS = 33
"""Bits of an entry; the 31 above hold an activation, whose bits have the order of positive floats."""

_ROWS = 64

_SHIFT = np.uint64(ENTRY_BITS)
_LAST_ENTRY = np.uint64(2**ENTRY_BITS - 1)


@compiled
def key_of(activation, entry):
    """Key of the bits of an activation (uint32) and an entry."""
    return (np.uint64(activation) << _SHIFT) | (_LAST_ENTRY - np.uint64(entry))


@compiled
def replace_smallest(heap, key):
    """Put a key, larger than the smallest, in its place."""
    place, size = 0, len(heap)
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = key


@compiled
def select_candidates(starts, activation, row, keys):
    """Select the strongest candidates of each feature, in any order.

    Args:
        starts: int64 [shards, features + 1], first candidate of each shard and feature.
        activation: uint32 [N], bits.
        row: int64 [N], row of the token among all tokens: the order of (document, position).
        keys: uint64 [features, n], zeros; receives the n largest keys of each feature.
    """
    n = keys.shape[1]
    most = 0
    for feature in range(len(keys)):
        most = max(most, (starts[:, feature + 1] - starts[:, feature]).sum())
    buffer = np.empty(most, np.uint64)
    for feature in range(len(keys)):
        size = 0
        for shard in range(len(starts)):
            for i in range(starts[shard, feature], starts[shard, feature + 1]):
                buffer[size] = key_of(activation[i], row[i])
                size += 1
        if size <= n:
            keys[feature, :size] = buffer[:size]
        else:
            keys[feature] = np.partition(buffer[:size], size - n)[size - n :]


@compiled
def fill_places(offsets, row, document, position):
    """Fill the document and the position in it of rows of tokens; -1 and -1 for the row -1.

    Args:
        offsets: int64 [documents + 1], first row of each document, and the end of the last.
        row: int64 [N].
        document: int32 [N], to be filled.
        position: int32 [N], to be filled.
    """
    first = np.empty((offsets[-1] + _ROWS - 1) // _ROWS, np.int32)  # document of every 64th row: no search from the top
    number = 0
    for block in range(len(first)):
        while offsets[number + 1] <= block * _ROWS:
            number += 1
        first[block] = number
    for i in range(len(row)):
        if row[i] < 0:
            document[i] = position[i] = -1
            continue
        number = first[row[i] // _ROWS]
        while offsets[number + 1] <= row[i]:
            number += 1
        document[i] = number
        position[i] = row[i] - offsets[number]


@compiled
def add_features(offsets, row, activation, heaps):
    """Add the active features of documents to the heaps of the documents.

    Args:
        offsets: int64 [d_sae + 1], first activation of each feature.
        row: int32 [N], row of the document in `heaps`.
        activation: uint32 [N], bits.
        heaps: uint64 [documents, n].
    """
    for feature in range(len(offsets) - 1):
        for i in range(offsets[feature], offsets[feature + 1]):
            key = key_of(activation[i], feature)
            if key > heaps[row[i], 0]:
                replace_smallest(heaps[row[i]], key)


@compiled
def merge_activations(starts, document, activation, documents, merged, heaps):
    """Order the activations of all shards by (feature, document), and add them to the heaps of the features.

    Args:
        starts: int64 [shards, features + 1], first activation of each shard and feature.
        document: int32 [N], of all shards, shard after shard; a document is in one shard.
        activation: uint32 [N], bits, parallel to `document`.
        documents: number of documents.
        merged: feature (from 0) int32 [N], document int32 [N] and activation uint32 [N], to be filled.
        heaps: uint64 [features, n].
    """
    merged_feature, merged_document, merged_activation = merged
    words = (documents + 7) // 8
    flags = np.zeros(8 * words, np.uint8)
    flag_words = flags.view(np.uint64)  # eight documents are looked at together: in most, a feature is not active
    values = np.empty(documents, np.uint32)
    active = np.empty(8 * words + 1, np.int32)
    first = 0
    for feature in range(len(heaps)):
        heap = heaps[feature]
        for shard in range(len(starts)):
            for i in range(starts[shard, feature], starts[shard, feature + 1]):
                values[document[i]] = activation[i]
                flags[document[i]] = 1
                key = key_of(activation[i], document[i])
                if key > heap[0]:
                    replace_smallest(heap, key)
        size = 0
        for word in range(words):
            if flag_words[word] != 0:
                for j in range(8 * word, 8 * word + 8):
                    active[size] = j
                    size += np.int64(flags[j])  # without a branch, which would be mispredicted
                flag_words[word] = 0
        for i in range(size):
            merged_feature[first + i] = feature
            merged_document[first + i] = active[i]
            merged_activation[first + i] = values[active[i]]
        first += size


@compiled
def fill_first_distinct(code, distinct):
    """Fill each row of `distinct` with the first distinct codes >= 0 of the row of `code`.

    Args:
        code: int32 [rows, m].
        distinct: int32 [rows, n], filled with -1.
    """
    for row in range(len(code)):
        size = 0
        for value in code[row]:
            is_new = value >= 0
            for i in range(size):
                is_new = is_new and distinct[row, i] != value
            if is_new:
                distinct[row, size] = value
                size += 1
                if size == distinct.shape[1]:
                    break
