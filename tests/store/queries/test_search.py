"""Neighbours, similar documents and full-text search, compared with brute force."""

from __future__ import annotations

import numpy as np
import pytest

from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.store.queries import feature_neighbours, search, similar_documents
from tests.support.vectors_case import VectorsCase, cosine


@pytest.mark.parametrize("within", [None, "one", "two"])
@pytest.mark.parametrize("in_layer", [None, 2])
def test_neighbours_are_those_of_brute_force(vectors_case: VectorsCase, within: str | None, in_layer: int | None):
    vector = vectors_case.vectors["one"].directions[1][7]
    cosines = [
        (float(value), layer, feature)
        for layer, directions in vectors_case.vectors[within or "one"].directions.items()
        if in_layer is None or layer == in_layer
        for feature, value in enumerate(cosine(vector, directions))
        if not (within != "two" and (layer, feature) == (1, 7))
    ]
    expected = sorted(cosines, reverse=True)[:9]
    searched = vectors_case.run(within) if within else None
    neighbours = feature_neighbours(vectors_case.run("one"), 1, 7, within=searched, in_layer=in_layer, limit=9)
    assert [(row.layer, row.feature) for row in neighbours] == [row[1:] for row in expected]
    assert [row.cosine for row in neighbours] == pytest.approx([row[0] for row in expected], abs=1e-5)
    assert {row.run for row in neighbours} == {within or "one"}


def test_similar_documents_are_those_of_brute_force(vectors_case: VectorsCase):
    run, embeddings = vectors_case.run("one"), vectors_case.vectors["one"].embeddings
    ids = [row["id"] for row in run.rows("SELECT id FROM documents ORDER BY document")]
    values = cosine(embeddings[4], embeddings)
    expected = [ids[number] for number in np.argsort(-values) if number != 4][:5]
    matches = similar_documents(run, ids[4], limit=5)
    assert [row.document for row in matches] == expected
    assert matches[0].score == pytest.approx(np.sort(values)[-2], abs=1e-5)


@pytest.mark.parametrize(
    ("words", "numbers"),
    [("車", {0}), ("犬", {1}), ("軽トラック", {2}), ("犬 散歩", {1}), ("犬 車", set()), ("猫", set())],
)
def test_japanese_words_of_one_character_are_found(vectors_case: VectorsCase, words: str, numbers: set[int]):
    run = vectors_case.run("one")
    ids = [row["id"] for row in run.rows("SELECT id FROM documents ORDER BY document")]
    assert {row.document for row in search(run, words)} == {ids[number] for number in numbers}


def test_matches_within_words_follow_matches_of_words(vectors_case: VectorsCase):
    run = vectors_case.run("one")
    rows = run.rows("SELECT id, text FROM documents ORDER BY document")
    part = "買い"  # texts of the run have it within 買い物
    expected = [row["id"] for row in rows if part in row["text"]]
    assert expected
    matches = search(run, part, limit=len(rows))
    within_words = [row.document for row in matches if row.score == 0.0]
    assert within_words
    assert within_words == sorted(within_words)
    assert set(expected) <= {row.document for row in matches}
    assert [row.score for row in matches] == sorted((row.score for row in matches), reverse=True)
    assert len(search(run, part, limit=2)) == 2


def test_missing_vectors_layers_and_documents_are_errors(vectors_case: VectorsCase):
    run = vectors_case.run("one")
    with pytest.raises(NotFoundError, match="has no directions") as caught:
        feature_neighbours(vectors_case.run("bare"), 0, 0)
    assert "add-vectors bare" in str(caught.value)
    with pytest.raises(NotFoundError, match="layer"):
        feature_neighbours(run, 9, 0)
    with pytest.raises(NotFoundError, match="no document"):
        similar_documents(run, "none")
    with pytest.raises(QueryError, match="the text is empty"):
        search(run, " ")
    with pytest.raises(QueryError):
        feature_neighbours(run, 0, 0, limit=0)
