"""Vectors of a run that is deleted while LanceDB opens them, which creates the directories that it opens."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tegakari.schemas.errors import NotFoundError
from tegakari.store import Store
from tegakari.store.disk.layout import VECTORS
from tegakari.store.disk.publish import adopt_run, delete_run
from tegakari.store.vectors import EMBEDDINGS, open_vectors
from tests.support.factories import make_run
from tests.support.vectors_case import make_vectors_case

lancedb = pytest.importorskip("lancedb")


def test_a_run_is_published_where_a_reader_has_left_directories(tmp_path: Path):
    make_run(tmp_path / "source", "drawn")
    store = tmp_path / "store"
    lancedb.connect(store / "runs" / "drawn" / VECTORS)
    assert (store / "runs" / "drawn" / VECTORS).is_dir()
    adopt_run(store, tmp_path / "source" / "runs" / "drawn")
    delete_run(store, "drawn")
    lancedb.connect(store / "runs" / "drawn" / VECTORS)
    make_run(store, "drawn")
    assert Store(store).names() == ["drawn"]


def test_a_reader_of_deleted_vectors_leaves_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_vectors_case(tmp_path)
    run, connect = Store(tmp_path).run("one"), lancedb.connect

    def connect_late(path: Path) -> object:
        directories.append(path.parent)
        delete_run(tmp_path, "one")
        shutil.rmtree(path.parent)
        return connect(path)

    directories: list[Path] = []
    monkeypatch.setattr(lancedb, "connect", connect_late)
    with pytest.raises((NotFoundError, ValueError)), open_vectors(run, EMBEDDINGS):
        pass
    assert len(directories) == 1
    assert not directories[0].exists()
    assert Store(tmp_path).names() == ["bare", "two"]
