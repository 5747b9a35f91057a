"""Top tokens against a brute-force sort of every activation."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tegakari.indexer.top_tokens import Candidates, TopTokens, concatenate, no_candidates, ranks, strongest
from tegakari.kernels import Survivors


def survivors_of(activations: np.ndarray, floor: np.ndarray) -> Survivors:
    """The survivors that encode returns for a dense [T, d_sae] batch."""
    rows, features = np.nonzero((activations > 0) & (activations >= floor))
    order = np.lexsort((rows, -activations[rows, features], features))
    rows, features = rows[order], features[order]
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


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 6), batches=st.integers(1, 5), shards=st.integers(1, 3))
def test_the_strongest_are_exact_with_ties_for_any_batches(seed: int, n: int, batches: int, shards: int):
    rng = np.random.default_rng(seed)
    T, d_sae = 60, 4
    # Few distinct values: the tie-break decides most ranks.
    activations = rng.integers(0, 4, (T, d_sae)).astype(np.float32)
    documents = np.repeat(np.arange(T // 3, dtype=np.int32), 3)
    positions = np.tile(np.arange(3, dtype=np.int32), T // 3)
    order = rng.permutation(T // 3)
    parts, floor = [], None
    for shard in np.array_split(order, shards):
        top = TopTokens(d_sae, n, floor)
        for group in np.array_split(shard, batches):
            rows = (group[:, None] * 3 + np.arange(3)).reshape(-1)
            top.add(survivors_of(activations[rows], top.floor), documents[rows], positions[rows])
        parts.append(top.result())
        floor = top.floor
    assert as_rows(strongest(concatenate(parts), n)) == brute_force(activations, documents, positions, n)


def test_the_floor_rises_to_the_nth_strongest_and_admits_ties():
    top = TopTokens(1, 2)
    batch = np.array([[5.0], [3.0], [4.0]], np.float32)
    places = np.arange(3, dtype=np.int32)
    top.add(survivors_of(batch, top.floor), places + 10, places)
    assert top.result().activation.tolist() == [5.0, 4.0]
    assert top.floor.tolist() == [4.0]
    later = np.array([[4.0], [3.9]], np.float32)
    top.add(survivors_of(later, top.floor), places[:2], places[:2])
    assert top.result().document.tolist() == [10, 0]  # the tie goes to the smaller document


def test_without_activations_there_are_no_candidates():
    top = TopTokens(3, 2)
    top.add(survivors_of(np.zeros((4, 3), np.float32), top.floor), *(np.zeros(4, np.int32),) * 2)
    assert len(top.result().feature) == 0
    assert as_rows(strongest(no_candidates(), 3)) == []
    assert ranks(np.array([], np.int32)).tolist() == []
