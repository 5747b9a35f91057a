"""Draw of the documents: the configured numbers, independent of the order of rows, no leaks between the splits."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from tegakari.indexer.corpus import read_documents
from tegakari.indexer.corpus.reasons import Reason
from tegakari.schemas.corpus import Document, Drop
from tests.support.corpus_sources import RowCells, import_rows, post, posts


def documents(directory: Path) -> list[Document]:
    return read_documents(directory / "corpus")


def sizes(directory: Path) -> dict[tuple[str, str], int]:
    return dict(Counter((document.label, document.split) for document in documents(directory)))


def test_each_label_has_the_configured_number_of_documents(tmp_path):
    manifest = import_rows(tmp_path, posts("ab", per_label=30), split_column="", train_per_label=7, eval_per_label=3)
    assert sizes(tmp_path) == {("a", "train"): 7, ("a", "eval"): 3, ("b", "train"): 7, ("b", "eval"): 3}
    assert [(drop.reason, drop.count) for drop in manifest.dropped] == [(Reason.NOT_DRAWN, 40)]
    assert manifest.changed == []


def test_a_split_column_is_capped_as_well(tmp_path):
    manifest = import_rows(tmp_path, posts("ab", per_label=30), train_per_label=7, eval_per_label=20)
    assert sizes(tmp_path) == {("a", "train"): 7, ("a", "eval"): 15, ("b", "train"): 7, ("b", "eval"): 15}
    assert [(drop.reason, drop.count) for drop in manifest.dropped] == [(Reason.NOT_DRAWN, 16)]
    splits = {row["id"]: row["split"] for row in posts("ab", per_label=30)}
    assert all(document.split == splits[document.id] for document in documents(tmp_path))


@pytest.mark.parametrize(
    ("size", "train", "evaluation"),
    [(2, 1, 1), (3, 2, 1), (5, 4, 1), (10, 7, 3), (99, 69, 30), (399, 279, 120)],
)
def test_too_few_documents_are_divided_in_the_ratio_and_reported(tmp_path, size, train, evaluation):
    manifest = import_rows(tmp_path, posts(["few"], per_label=size), split_column="")
    assert (manifest.train, manifest.eval) == (train, evaluation)
    assert manifest.changed == [Drop(str(Reason.FEWER_THAN_WANTED), size, ["few"])]


@pytest.mark.parametrize(("train", "evaluation"), [(1, 1000), (1000, 1)])
def test_a_lopsided_ratio_leaves_at_least_one_in_each_split(tmp_path, train, evaluation):
    manifest = import_rows(
        tmp_path, posts(["few"], per_label=5), split_column="", train_per_label=train, eval_per_label=evaluation
    )
    assert min(manifest.train, manifest.eval) == 1


@pytest.mark.parametrize("split_column", ["", "split"])
@pytest.mark.parametrize("id_column", ["", "id"])
def test_the_order_of_rows_changes_nothing(tmp_path, split_column, id_column):
    rows = [
        post(number, "abc"[number % 3], random.Random(number).choice(["train", "eval"]), body=f"body {number % 71}")
        for number in range(120)
    ]
    options = {"split_column": split_column, "id_column": id_column, "title_column": ""}
    options |= {"train_per_label": 20, "eval_per_label": 9}
    first = import_rows(tmp_path, rows, **options)
    assert {drop.reason for drop in first.dropped} >= {Reason.NOT_DRAWN, Reason.OTHER_LABEL}
    before = documents(tmp_path)
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        assert import_rows(tmp_path, rows, **options).content_sha256 == first.content_sha256
        assert documents(tmp_path) == before


def test_another_seed_draws_other_documents(tmp_path):
    drawn: set[frozenset[str]] = set()
    for seed in range(4):
        import_rows(
            tmp_path, posts("ab", per_label=40), split_column="", train_per_label=5, eval_per_label=5, seed=seed
        )
        drawn.add(frozenset(document.id for document in documents(tmp_path) if document.split == "train"))
    assert len(drawn) == 4


def test_a_draw_favours_no_row(tmp_path):
    """Each of 40 documents is in 200 draws of 10 about 50 times; 5 standard deviations are 31."""
    times: Counter[str] = Counter()
    rows = posts(["a"], per_label=40)
    for seed in range(200):
        import_rows(tmp_path, rows, split_column="", train_per_label=10, eval_per_label=1, seed=seed)
        times.update(document.id for document in documents(tmp_path) if document.split == "train")
    assert len(times) == 40
    assert max(abs(count - 50) for count in times.values()) < 31


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        (" TRAIN\n", "train"),
        ("eval", "eval"),
        ("evaluation", "eval"),
        ("test", "eval"),
        ("testing", "eval"),
        ("validation", "eval"),
        ("valid", "eval"),
        ("val", "eval"),
        ("dev", "eval"),
    ],
)
def test_names_of_splits(tmp_path, name, split):
    import_rows(tmp_path, [*posts(), post(60, split=name)])
    assert {document.id: document.split for document in documents(tmp_path)}["p060"] == split


def same(number: int, label: str, split: str, text: str = "the same") -> RowCells:
    return post(number, label, split, title=text, body="")


def test_evaluation_documents_whose_text_has_another_label_are_dropped(tmp_path):
    rows = [*posts(("food", "cars")), same(20, "food", "eval"), same(21, "cars", "eval"), same(22, "cars", "train")]
    manifest = import_rows(tmp_path, rows)
    assert manifest.dropped == [Drop(str(Reason.OTHER_LABEL), 2, ["p020", "p021"])]
    assert "p022" in {document.id for document in documents(tmp_path)}


def test_evaluation_documents_with_a_training_copy_are_dropped(tmp_path):
    manifest = import_rows(tmp_path, [*posts(), same(20, "food", "train"), same(21, "food", "eval")])
    assert manifest.dropped == [Drop(str(Reason.LEAKED), 1, ["p021"])]


def test_copies_within_a_label_and_a_split_are_not_dropped(tmp_path):
    rows = [
        same(20, "food", "train"),
        same(21, "food", "train"),
        same(22, "food", "eval", "x"),
        same(23, "food", "eval", "x"),
    ]
    assert import_rows(tmp_path, [*posts(), *rows]).documents == 12


def test_texts_are_compared_to_the_character_and_after_the_cut(tmp_path):
    rows = [
        *posts(),
        same(20, "food", "eval", "é"),
        same(21, "cars", "eval", "e\u0301"),
        same(22, "cars", "train", "é "),
    ]
    assert import_rows(tmp_path, rows).dropped == []
    assert [drop.count for drop in import_rows(tmp_path, rows, max_characters=1).dropped] == [5]


def test_a_label_with_one_remaining_document_is_dropped(tmp_path):
    manifest = import_rows(tmp_path, [*posts(), same(20, "rare", "train"), same(21, "rare", "eval")])
    assert [(drop.reason, drop.examples) for drop in manifest.dropped] == [
        (Reason.SMALL_LABEL, ["rare"]),
        (Reason.LEAKED, ["p021"]),
    ]
    assert manifest.labels == ["cars", "food"]


def test_ids_derived_from_the_content(tmp_path):
    rows = [post(1, "a", body="b"), post(1, "a", body="b"), post(1, "a", body="b"), post(2, "a", "eval", body="c")]
    manifest = import_rows(tmp_path, rows, id_column="", title_column="")
    # sha256 of "a", NUL, "b" and of "a", NUL, "c", by another program
    assert [(document.id, document.text) for document in documents(tmp_path)] == [
        ("59b271ae1bbcb1d3", "b"),
        ("59b271ae1bbcb1d3-2", "b"),
        ("59b271ae1bbcb1d3-3", "b"),
        ("b179f49283f586ae", "c"),
    ]
    assert manifest.dropped == []


def test_ids_derived_from_content_in_both_splits(tmp_path):
    rows = [post(1, "a", "eval", body="b"), post(2, "a", "train", body="b"), post(3, "a", body="c")]
    manifest = import_rows(tmp_path, rows, id_column="", title_column="")
    assert [document[:3] for document in documents(tmp_path)] == [
        ("59b271ae1bbcb1d3", "a", "train"),
        ("b179f49283f586ae", "a", "train"),
    ]
    assert manifest.dropped == [Drop(str(Reason.LEAKED), 1, ["59b271ae1bbcb1d3"])]


def test_copies_are_drawn_one_by_one(tmp_path):
    """Of 20 copies and 20 other documents, 10 are drawn: neither all nor none of them are copies."""
    rows = posts(["a"], per_label=20) + [post(99, "a", body="copy") for _ in range(20)]
    for seed in range(10):
        import_rows(tmp_path, rows, id_column="", split_column="", train_per_label=10, eval_per_label=1, seed=seed)
        copies = sum(document.text.endswith("copy") for document in documents(tmp_path) if document.split == "train")
        assert 1 <= copies <= 9
