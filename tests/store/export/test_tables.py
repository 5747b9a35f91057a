"""Exports, and copies from elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from tegakari.schemas.errors import NotFoundError, RunExistsError, StoreError
from tegakari.store import Store
from tegakari.store.disk.publish import adopt_run, damaged_files
from tegakari.store.export.tables import EXPORTED, export_run
from tests.support.factories import make_run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    make_run(directory, "one", seed=1)
    return directory


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv"])
def test_every_table_is_exported_whole_and_in_order(store: Path, tmp_path: Path, form: str):
    run = Store(store).run("one")
    written = export_run(run, tmp_path / "out", file_format=form)
    assert list(written) == [table.name for table in EXPORTED]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        ["run.json", *(f"{table.name}.{form}" for table in EXPORTED)]
    )
    for table in EXPORTED[:-1]:
        expected = run.query(f"SELECT * FROM {table.name} ORDER BY {', '.join(table.order)}")
        file = tmp_path / "out" / f"{table.name}.{form}"
        if form == "csv":
            read = pa_csv.read_csv(file)
            assert read.column_names == expected.column_names
        else:
            read = pq.read_table(file) if form == "parquet" else pa.ipc.open_file(file).read_all()
            assert read.to_pylist() == expected.to_pylist()
            assert read.schema.metadata[b"about"].decode() == table.about
            assert read.schema.field(0).metadata[b"about"].decode() == table.columns[0].about
        assert read.num_rows == written[table.name] == expected.num_rows
    count = duckdb.sql(f"SELECT count(*) FROM '{store}/runs/one/activations/*/*.parquet'").fetchall()[0][0]
    assert written["activations"] == count > 0


def test_chosen_tables(store: Path, tmp_path: Path):
    assert list(export_run(Store(store).run("one"), tmp_path / "out", tables=["labels"])) == ["labels"]


def test_an_export_is_refused_or_whole(store: Path, tmp_path: Path):
    run = Store(store).run("one")
    with pytest.raises(StoreError, match="is not a table"):
        export_run(run, tmp_path / "a", tables=["label"])
    with pytest.raises(StoreError, match="is not a format"):
        export_run(run, tmp_path / "a", file_format="xlsx")
    (tmp_path / "there").mkdir()
    with pytest.raises(StoreError, match="exists"):
        export_run(run, tmp_path / "there")

    def stop(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_run(run, tmp_path / "b", advance=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_run_is_adopted_by_another_store(store: Path, tmp_path: Path):
    source = store / "runs" / "one"
    adopt_run(tmp_path, source)
    assert damaged_files(tmp_path, "one") == []
    assert Store(tmp_path).run("one").labels == Store(store).run("one").labels
    with pytest.raises(RunExistsError):
        adopt_run(tmp_path, source)
    with pytest.raises(NotFoundError):
        adopt_run(tmp_path, store)
    assert not list((tmp_path / "work").iterdir())


def test_a_damaged_run_is_not_adopted(store: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(store / "runs" / "one", copy)
    file = copy / "index.duckdb"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(StoreError, match=r"index\.duckdb"):
        adopt_run(tmp_path / "store", copy)
    assert not (tmp_path / "store" / "runs" / "one").exists()
