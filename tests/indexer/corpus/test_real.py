"""A real corpus of 15,098 posts under 58 labels."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from tegakari.indexer.corpus import read_documents
from tests.support.corpus_sources import import_file

DEFAULT = Path(__file__).parents[4] / "shared" / "data" / "dev_corpus.jsonl.gz"
DEV_CORPUS = Path(os.environ.get("TEGAKARI_DEV_CORPUS", DEFAULT))
if DEV_CORPUS.is_dir():
    DEV_CORPUS /= DEFAULT.name

pytestmark = pytest.mark.skipif(not DEV_CORPUS.is_file(), reason="the development corpus is not here")


def test_every_post_with_its_split(tmp_path):
    start = time.monotonic()
    found = import_file(DEV_CORPUS, path=str(tmp_path / "corpus"))
    assert time.monotonic() - start < 30
    assert (found.rows, found.documents, found.train, found.eval) == (15_098, 15_098, 10_571, 4_527)
    assert (len(found.labels), found.dropped, found.changed) == (58, [], [])
    with gzip.open(DEV_CORPUS, "rt", encoding="utf-8") as stream:
        rows = {row["id"]: row for row in map(json.loads, stream)}
    for document in read_documents(tmp_path / "corpus"):
        row = rows.pop(document.id)
        assert document[1:] == (row["label"], row["split"], row["title"] + "\n" + row["body"])
    assert rows == {}


def test_sampled_splits(tmp_path):
    found = import_file(
        DEV_CORPUS, path=str(tmp_path / "corpus"), split_column="", train_per_label=56, eval_per_label=24
    )
    documents = read_documents(tmp_path / "corpus")
    sizes = Counter((document.label, document.split) for document in documents)
    assert {sizes[label, "train"] for label in found.labels} == {56}
    assert {sizes[label, "eval"] for label in found.labels} <= set(range(20, 25))
    assert found.rows == 15_098 == found.documents + sum(drop.count for drop in found.dropped)
