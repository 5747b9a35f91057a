"""Top tokens against a brute-force sort of every activation."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tegakari.indexer.candidates import Candidates
from tegakari.indexer.strongest_survivors import strongest_survivors
from tegakari.kernels import Survivors
from tests.support.plain_candidates import strongest_candidates


def survivors_of(activations: np.ndarray, floor: np.ndarray, order: np.ndarray) -> Survivors:
    """The survivors that encode returns for a dense [T, d_sae] batch, in an order of their own."""
    rows, features = np.nonzero((activations > 0) & (activations >= floor))
    shuffle = order[order < len(rows)]
    rows, features = rows[shuffle], features[shuffle]
    return Survivors(
        torch.from_numpy(features.astype(np.int32)),
        torch.from_numpy(rows.astype(np.int32)),
        torch.from_numpy(activations[rows, features]),
    )


def brute_force(activations: np.ndarray, documents: np.ndarray, positions: np.ndarray, n: int):
    rows = [
        (feature, -activations[row, feature], documents[row], positions[row])
        for feature in range(activations.shape[1])
        for row in range(len(activations))
        if activations[row, feature] > 0
    ]
    strongest_rows: list[tuple] = []
    for feature in range(activations.shape[1]):
        strongest_rows += sorted(row for row in rows if row[0] == feature)[:n]
    return strongest_rows


def as_rows(candidates: Candidates):
    columns = candidates.feature.tolist(), (-candidates.activation).tolist(), candidates.document, candidates.position
    return list(zip(*columns, strict=True))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 6), shards=st.integers(1, 3))
def test_the_strongest_are_exact_with_ties_for_any_shards(seed: int, n: int, shards: int):
    """Of each shard and then of all, with the floor that the shards before have raised."""
    rng = np.random.default_rng(seed)
    T, d_sae = 60, 4
    # Few distinct values: the tie-break decides most ranks.
    activations = rng.integers(0, 4, (T, d_sae)).astype(np.float32)
    documents = np.repeat(np.arange(T // 3, dtype=np.int32), 3)
    positions = np.tile(np.arange(3, dtype=np.int32), T // 3)
    parts, union = [], torch.zeros(d_sae, n)
    for shard in np.array_split(rng.permutation(T // 3), shards):
        rows = (shard[:, None] * 3 + np.arange(3)).reshape(-1)
        order = np.argsort(np.lexsort((positions[rows], documents[rows]))).astype(np.int32)
        survivors = survivors_of(activations[rows], union[:, -1].numpy(), rng.permutation(T * d_sae))
        best = strongest_survivors(survivors, n, d_sae, torch.from_numpy(order))
        union = torch.cat([union, best.table(d_sae, n)], 1).sort(1, descending=True).values[:, :n]
        feature, position, activation = (column.numpy() for column in best.survivors)
        parts.append(Candidates(feature, activation, documents[rows][position], positions[rows][position]))
        assert as_rows(strongest_candidates(parts[-1], n)) == as_rows(parts[-1])
    joined = Candidates(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    assert as_rows(strongest_candidates(joined, n)) == brute_force(activations, documents, positions, n)


def test_without_activations_there_are_no_candidates():
    empty = Survivors(torch.empty(0, dtype=torch.int32), torch.empty(0, dtype=torch.int32), torch.empty(0))
    best = strongest_survivors(empty, 2, 3, torch.empty(0, dtype=torch.int32))
    assert best.table(3, 2).tolist() == [[0, 0]] * 3
