"""Neighbours, similar documents, words and pairs, held to brute force; vectors that come later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.store import Run, Store
from tegakari.store.queries import feature_neighbours, search, similar_documents
from tegakari.store.queries.pairs import similar_pairs
from tegakari.store.vectors import publish_added
from tests.support.factories import make_run

D_MODEL = 8


def add(store: Path, run: Run, seed: int) -> tuple[dict[int, np.ndarray], np.ndarray, list[str]]:
    draw = np.random.default_rng(seed)
    layers, widths = run.manifest.saes.layers, run.manifest.saes.widths
    directions = {
        layer: draw.standard_normal((width, D_MODEL)).astype(np.float32)
        for layer, width in zip(layers, widths, strict=True)
    }
    embeddings = draw.standard_normal((run.manifest.corpus.documents, D_MODEL)).astype(np.float32)
    texts = [row["text"] for row in run.rows("SELECT text FROM documents ORDER BY document")]
    texts[:3] = ["今日は車で買い物に行きました", "犬と散歩をした", "軽トラックを買った"]
    publish_added(store, run.manifest, directions, embeddings, texts)
    return directions, embeddings, texts


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory):
    store = tmp_path_factory.mktemp("store")
    made = {}
    for seed, name in enumerate(("one", "two")):
        make_run(store, name, seed=seed)
        made[name] = add(store, Store(store).run(name), seed)
    make_run(store, "bare", seed=3)
    return store, made


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a @ b.T) / np.linalg.norm(b, axis=-1) / np.linalg.norm(a, axis=-1, keepdims=a.ndim > 1)


@pytest.mark.parametrize("within", [None, "one", "two"])
@pytest.mark.parametrize("in_layer", [None, 2])
def test_neighbours_are_those_of_brute_force(case, within: str | None, in_layer: int | None):
    store, made = case
    runs = Store(store)
    searched = made[within or "one"][0]
    vector = made["one"][0][1][7]
    every = [
        (float(value), layer, feature)
        for layer, rows in searched.items()
        if in_layer is None or layer == in_layer
        for feature, value in enumerate(cosine(vector, rows))
        if not (within != "two" and (layer, feature) == (1, 7))
    ]
    expected = sorted(every, reverse=True)[:9]
    other = runs.run(within) if within else None
    found = feature_neighbours(runs.run("one"), 1, 7, within=other, in_layer=in_layer, limit=9)
    assert [(row.layer, row.feature) for row in found] == [hit[1:] for hit in expected]
    assert [row.cosine for row in found] == pytest.approx([hit[0] for hit in expected], abs=1e-5)
    assert {row.run for row in found} == {within or "one"}


def test_similar_documents_are_those_of_brute_force(case):
    store, made = case
    run = Store(store).run("one")
    embeddings = made["one"][1]
    ids = [row["id"] for row in run.rows("SELECT id FROM documents ORDER BY document")]
    values = cosine(embeddings[4], embeddings)
    expected = [ids[number] for number in np.argsort(-values) if number != 4][:5]
    found = similar_documents(run, ids[4], limit=5)
    assert [row.document for row in found] == expected
    assert found[0].score == pytest.approx(np.sort(values)[-2], abs=1e-5)


@pytest.mark.parametrize(
    ("words", "numbers"),
    [("車", {0}), ("犬", {1}), ("軽トラック", {2}), ("犬 散歩", {1}), ("犬 車", set()), ("猫", set())],
)
def test_japanese_words_are_found_even_of_one_character(case, words: str, numbers: set[int]):
    store, _ = case
    run = Store(store).run("one")
    ids = [row["id"] for row in run.rows("SELECT id FROM documents ORDER BY document")]
    assert {row.document for row in search(run, words)} == {ids[number] for number in numbers}


def test_parts_of_words_come_behind_words(case):
    store, _ = case
    run = Store(store).run("one")
    rows = run.rows("SELECT id, text FROM documents ORDER BY document")
    part = "買い"  # the run's own texts have it inside 買い物
    expected = [row["id"] for row in rows if part in row["text"]]
    assert expected
    found = search(run, part, limit=len(rows))
    inside = [row.document for row in found if row.score == 0.0]
    assert inside
    assert inside == sorted(inside)
    assert set(expected) <= {row.document for row in found}
    assert [row.score for row in found] == sorted((row.score for row in found), reverse=True)
    assert len(search(run, part, limit=2)) == 2


@pytest.mark.parametrize("block", [3, 512])
def test_pairs_are_all_that_qualify(case, block: int, monkeypatch: pytest.MonkeyPatch):
    store, made = case
    monkeypatch.setattr("tegakari.store.queries.pairs.BLOCK_DOCUMENTS", block)
    run = Store(store).run("one")
    rows = run.rows("SELECT label_id, predicted_id FROM documents ORDER BY document")
    values = cosine(made["one"][1], made["one"][1])
    right = [number for number, row in enumerate(rows) if row["label_id"] == row["predicted_id"]]
    expected = {
        (a, b) for a in right for b in right if values[a, b] >= 0.4 and rows[a]["label_id"] != rows[b]["label_id"]
    }
    assert expected
    pairs = similar_pairs(run, min_cosine=0.4, n=10_000)
    assert set(zip(pairs.clean.tolist(), pairs.corrupted.tolist(), strict=True)) == expected
    assert (pairs.qualifying, pairs.correct) == (len(expected), len(right))
    some = similar_pairs(run, min_cosine=0.4, n=3, seed=5)
    again = similar_pairs(run, min_cosine=0.4, n=3, seed=5)
    assert set(zip(some.clean.tolist(), some.corrupted.tolist(), strict=True)) <= expected
    assert some.qualifying == len(expected)
    assert some.clean.tolist() == again.clean.tolist()
    drawn = {similar_pairs(run, min_cosine=0.4, n=1, seed=seed).clean.tolist()[0] for seed in range(12)}
    assert len(drawn) > 1


def test_what_is_not_there_is_said(case):
    store, _ = case
    runs = Store(store)
    with pytest.raises(NotFoundError, match="has no directions") as caught:
        feature_neighbours(runs.run("bare"), 0, 0)
    assert "add-vectors bare" in str(caught.value)
    with pytest.raises(NotFoundError, match="layer"):
        feature_neighbours(runs.run("one"), 9, 0)
    with pytest.raises(NotFoundError, match="no document"):
        similar_documents(runs.run("one"), "none")
    with pytest.raises(QueryError, match="the text is empty"):
        search(runs.run("one"), " ")
    with pytest.raises(QueryError):
        feature_neighbours(runs.run("one"), 0, 0, limit=0)
