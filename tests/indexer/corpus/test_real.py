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


def test_all_posts_with_the_splits_of_the_source(tmp_path):
    start = time.monotonic()
    manifest = import_file(DEV_CORPUS, path=str(tmp_path / "corpus"))
    assert time.monotonic() - start < 30
    assert (manifest.rows, manifest.documents, manifest.train, manifest.eval) == (15_098, 15_098, 10_571, 4_527)
    assert (len(manifest.labels), manifest.dropped, manifest.changed) == (58, [], [])
    with gzip.open(DEV_CORPUS, "rt", encoding="utf-8") as stream:
        rows = {row["id"]: row for row in map(json.loads, stream)}
    for document in read_documents(tmp_path / "corpus"):
        row = rows.pop(document.id)
        assert document[1:] == (row["label"], row["split"], row["title"] + "\n" + row["body"])
    assert rows == {}


def test_sampled_splits(tmp_path):
    manifest = import_file(
        DEV_CORPUS, path=str(tmp_path / "corpus"), split_column="", train_per_label=56, eval_per_label=24
    )
    documents = read_documents(tmp_path / "corpus")
    sizes = Counter((document.label, document.split) for document in documents)
    assert {sizes[label, "train"] for label in manifest.labels} == {56}
    assert {sizes[label, "eval"] for label in manifest.labels} <= set(range(20, 25))
    assert manifest.rows == 15_098 == manifest.documents + sum(drop.count for drop in manifest.dropped)
