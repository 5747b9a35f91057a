"""Labels that are several labels: lists of one are read, others are counted or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tegakari.indexer.corpus.label_lists import check_single_labels
from tegakari.schemas.errors import CorpusError
from tests.support.corpus_sources import (
    import_file,
    import_rows,
    post,
    posts,
    write_arrow_file,
    write_csv,
    write_jsonl,
    write_parquet,
)

LISTS = [row | {"label": [row["label"]]} for row in posts()]
WRITERS = {"posts.jsonl": write_jsonl, "posts.parquet": write_parquet, "posts.arrow": write_arrow_file}


@pytest.mark.parametrize("name", WRITERS)
def test_lists_of_one_label_are_the_label(tmp_path: Path, name: str):
    rows = [*LISTS, post(50, ["food", "cars"]), post(51, []), post(52, None), post(53, [None])]
    manifest = import_file(WRITERS[name](tmp_path / name, rows))
    assert manifest.labels == ["cars", "food"]
    assert manifest.documents == len(LISTS)
    counts = {drop.reason: drop.count for drop in manifest.dropped}
    assert counts == {"label is a list of several labels": 1, "empty label": 3}
    plain = import_rows(tmp_path, posts())
    assert plain.content_sha256 == manifest.content_sha256


@pytest.mark.parametrize("name", WRITERS)
def test_only_lists_of_several_labels(tmp_path: Path, name: str):
    rows = [row | {"label": [row["label"], "other"]} for row in posts()]
    with pytest.raises(CorpusError) as caught:
        import_file(WRITERS[name](tmp_path / name, rows))
    assert "8 label is a list of several labels" in caught.value.message
    assert "one label per row" in (caught.value.fix or "")


@pytest.mark.parametrize(
    "feature",
    [
        {"feature": {"names": ["food", "職"], "_type": "ClassLabel"}, "_type": "Sequence"},
        {"feature": {"names": ["food", "職"], "_type": "ClassLabel"}, "_type": "List"},
        [{"names": ["food", "職"], "_type": "ClassLabel"}],
    ],
)
def test_lists_of_class_labels_become_names(tmp_path: Path, feature: Any):
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    rows = [post(n, [n % 2]) for n in range(4)] + [post(9, [-1]), post(10, [0, 1])]
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(metadata), tmp_path / "posts.parquet")
    manifest = import_file(tmp_path / "posts.parquet")
    assert manifest.labels == ["food", "職"]
    assert {drop.reason: drop.examples for drop in manifest.dropped} == {
        "empty label": ["p009"],
        "label is a list of several labels": ["row 6"],
    }


def test_lists_in_long_lines(tmp_path: Path):
    rows = [*LISTS, post(60, ["food"], body="x" * 2**20), post(61, ["food", "cars"], body="x" * 2**20)]
    manifest = import_rows(tmp_path, rows)
    assert manifest.documents == len(LISTS) + 1
    assert [(drop.reason, drop.examples) for drop in manifest.dropped] == [
        ("label is a list of several labels", ["line 10"])
    ]


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (["a", "b", "a;b"], "'a;b'"),
        (["a;b", "b;c", "a; c"], "'a; c'"),
        (["a", "b", "c", "b | c"], "'b | c'"),
        (["comedy", "drama", "comedy, drama"], "'comedy, drama'"),
        (["['a']", "['b']"], "\"['a']\""),
        (["[0, 1]", "[1, 0]"], "'[0, 1]'"),
    ],
)
def test_a_text_of_several_labels_is_named(labels: list[str], named: str):
    with pytest.raises(CorpusError) as caught:
        check_single_labels(labels)
    assert named in caught.value.message
    assert caught.value.field == "corpus.label_column"


@pytest.mark.parametrize(
    "labels",
    [
        ["food; drink", "cars"],
        ["Books, Music", "Music, Film", "Film, Books"],  # names with commas
        ["a", "a;", ";"],
        ["C++|C", "rust"],
        ["[draft]", "[", "]", "[1"],
        ["a;a", "b"],
        [],
    ],
)
def test_names_with_separators_are_names(labels: list[str]):
    check_single_labels(labels)


def test_an_import_refuses_labels_that_are_joined(tmp_path: Path):
    rows = [*posts(("food", "cars", "food;cars"))]
    with pytest.raises(CorpusError, match="'food' and 'cars' occur in other labels"):
        import_rows(tmp_path, rows)
    assert not (tmp_path / "corpus").exists()


def test_columns_of_zero_and_one(tmp_path: Path):
    rows = [
        {"id": n, "body": f"b {n}", "title": "", "food": n % 2, "cars": 1 - n % 2, "split": "train"} for n in range(4)
    ]
    with pytest.raises(CorpusError) as caught:
        import_file(write_csv(tmp_path / "posts.csv", rows))
    assert "write one column with their names" in (caught.value.fix or "")
