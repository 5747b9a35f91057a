"""Analyses and vectors beside a run, made by someone else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tegakari.schemas.analysis_kinds import AnalysisKind
from tegakari.schemas.errors import StoreError
from tegakari.schemas.tables import Column, Table
from tegakari.store import Store, queries
from tegakari.store.results import Analysis, publish_analysis, stored_analyses
from tegakari.store.sql.query import run_query
from tegakari.store.vectors import publish_added
from tests.support.factories import D_MODEL, make_run
from tests.support.hostile_runs import SECRET


class Settings(msgspec.Struct, frozen=True):
    k: int = 20


class Result(msgspec.Struct, frozen=True):
    recall: float


KIND = AnalysisKind("knockout", Settings, Result)
ROWS = Table("rows_of_it", "A table.", ("number",), (Column("number", "int32", "n"),))


@pytest.fixture
def analysis(tmp_path: Path) -> Path:
    """Directory of a stored analysis, in a store with a file outside of it."""
    store = tmp_path / "store"
    manifest = make_run(store, "one", layers=1, d_sae=12, documents_per_label=2)
    (tmp_path / "outside.json").write_text(json.dumps({"recall": 0.5, "text": SECRET}))
    rows = {ROWS: pa.table({"number": pa.array([1, 2], pa.int32())})}
    return publish_analysis(store, KIND, [manifest], Settings(), Result(0.25), rows, seconds=1.0, versions={}).directory


def outside(directory: Path) -> Path:
    return directory.parents[3] / "outside.json"


def _linked(name: str) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        (directory / name).unlink()
        (directory / name).symlink_to(outside(directory))

    return change


def _edited(**values: object) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        manifest = json.loads((directory / "analysis.json").read_text())
        (directory / "analysis.json").write_text(json.dumps({**manifest, **values}))

    return change


def _directory_linked(directory: Path) -> None:
    moved = directory.rename(directory.parents[2] / "moved")
    directory.symlink_to(moved)


CHANGES: dict[str, Callable[[Path], object]] = {
    "result is a link": _linked("result.json"),
    "table is a link": _linked("rows_of_it.parquet"),
    "manifest is a link": _linked("analysis.json"),
    "directory is a link": _directory_linked,
    "one more link": lambda directory: (directory / "more").symlink_to("/"),
    "another kind": _edited(kind="../../runs/one"),
    "another key": _edited(key="0" * 32),
    "a key with a path": _edited(key="../../../outside"),
    "a run with a path": _edited(runs=[{"run": "../x", "fingerprint": "0" * 64}]),
    "a fingerprint with a path": _edited(runs=[{"run": "one", "fingerprint": "../../x"}]),
    "files in the parent": _edited(files=[{"path": "../x", "size": 1, "sha256": ""}]),
    "noise": lambda directory: (directory / "analysis.json").write_bytes(b"\x00\xff"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_hostile_analysis_is_left_out(analysis: Path, name: str):
    store = analysis.parents[2]
    CHANGES[name](analysis)
    assert list(stored_analyses(store)) == []
    with pytest.raises(StoreError):
        Analysis(analysis)
    rows = run_query(store, ["one"], "FROM analyses").read_all()
    assert rows.num_rows == 0


def test_an_honest_analysis_is_shown(analysis: Path):
    assert [stored.result(KIND) for stored in stored_analyses(analysis.parents[2])] == [Result(0.25)]


def test_a_table_with_other_columns_is_refused(analysis: Path):
    pq.write_table(pa.table({"number": ["text"]}), analysis / "rows_of_it.parquet")
    with pytest.raises(StoreError, match="other columns"):
        Analysis(analysis).table(ROWS)


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """Directory of the vectors of a run."""
    store = tmp_path / "store"
    manifest = make_run(store, "one", layers=1, d_sae=12, documents_per_label=2)
    random = np.random.default_rng(0)
    directions = {0: random.normal(size=(12, D_MODEL)).astype(np.float32)}
    embeddings = random.normal(size=(12, D_MODEL)).astype(np.float32)
    return publish_added(store, manifest, directions, [embeddings], ["car"] * 12)


def overwritten(vectors: Path, name: str, table: pa.Table) -> None:
    import lancedb

    lancedb.connect(vectors / "vectors.lance").create_table(name, table, mode="overwrite")


def test_vectors_with_other_columns_rows_or_links_are_refused(vectors: Path):
    store = vectors.parents[1]
    vector = pa.array([[0.5] * D_MODEL] * 12, pa.list_(pa.float32(), D_MODEL))
    numbers = pa.array(range(12), pa.int32())
    assert len(queries.feature_neighbours(Store(store).run("one"), 0, 1)) == 11
    changes = {
        "fewer rows": pa.table({"layer": numbers, "feature": numbers, "vector": vector}).slice(0, 5),
        "other types": pa.table({"layer": numbers.cast(pa.int64()), "feature": numbers, "vector": vector}),
        "other columns": pa.table({"layer": numbers, "vector": vector}),
    }
    for table in changes.values():
        overwritten(vectors, "directions", table)
        with pytest.raises(StoreError, match="directions"):
            queries.feature_neighbours(Store(store).run("one"), 0, 1)
    (vectors / "vectors.lance" / "link").symlink_to("/")
    with pytest.raises(StoreError, match="link"):
        queries.similar_documents(Store(store).run("one"), Store(store).run("one").blocks.documents.id[0].as_py())


def test_numbers_of_documents_beyond_the_run_are_refused(vectors: Path):
    store = vectors.parents[1]
    vector = pa.array([[0.5] * D_MODEL] * 12, pa.list_(pa.float32(), D_MODEL))
    numbers = pa.array([0, *range(1001, 1012)], pa.int32())
    overwritten(vectors, "embeddings", pa.table({"document": numbers, "vector": vector}))
    run = Store(store).run("one")
    with pytest.raises(StoreError, match="numbers outside"):
        queries.similar_documents(run, run.blocks.documents.id[0].as_py())


def test_vectors_of_a_linked_directory_are_refused(vectors: Path, tmp_path: Path):
    moved = tmp_path / "moved"
    shutil.move(vectors, moved)
    vectors.symlink_to(moved)
    with pytest.raises(StoreError, match="link"):
        queries.search(Store(vectors.parents[1]).run("one"), "car")
