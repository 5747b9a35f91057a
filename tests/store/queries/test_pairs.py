"""Pairs of similar documents are those of brute force, and a draw of them is a sample."""

from __future__ import annotations

import pytest

from tegakari.store.queries.pairs import similar_pairs
from tests.support.vectors_case import VectorsCase, cosine


@pytest.mark.parametrize("block", [3, 512])
def test_pairs_are_all_that_qualify(vectors_case: VectorsCase, block: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tegakari.store.queries.pairs.BLOCK_DOCUMENTS", block)
    run, embeddings = vectors_case.run("one"), vectors_case.vectors["one"].embeddings
    rows = run.rows("SELECT label_id, predicted_id FROM documents ORDER BY document")
    values = cosine(embeddings, embeddings)
    correct = [number for number, row in enumerate(rows) if row["label_id"] == row["predicted_id"]]
    expected = {
        (a, b) for a in correct for b in correct if values[a, b] >= 0.4 and rows[a]["label_id"] != rows[b]["label_id"]
    }
    assert expected
    pairs = similar_pairs(run, min_cosine=0.4, n=10_000)
    assert set(zip(pairs.clean.tolist(), pairs.corrupted.tolist(), strict=True)) == expected
    assert (pairs.qualifying, pairs.correct) == (len(expected), len(correct))
    three = similar_pairs(run, min_cosine=0.4, n=3, seed=5)
    again = similar_pairs(run, min_cosine=0.4, n=3, seed=5)
    assert set(zip(three.clean.tolist(), three.corrupted.tolist(), strict=True)) <= expected
    assert three.qualifying == len(expected)
    assert three.clean.tolist() == again.clean.tolist()
    drawn = {similar_pairs(run, min_cosine=0.4, n=1, seed=seed).clean.tolist()[0] for seed in range(12)}
    assert len(drawn) > 1
