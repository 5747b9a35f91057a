"""Exports of tables are whole, ordered and described, or absent."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from tegakari.schemas.errors import StoreError
from tegakari.schemas.progress import NoProgress
from tegakari.schemas.tables import TABLES
from tegakari.store import Store
from tegakari.store.export.tables import EXPORTED, export_run
from tests.support.factories import make_run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    make_run(directory, "one", seed=1)
    return directory


@pytest.mark.parametrize("file_format", ["parquet", "arrow", "csv"])
def test_every_table_is_exported_whole_and_in_order(store: Path, tmp_path: Path, file_format: str):
    run = Store(store).run("one")
    row_counts = export_run(run, tmp_path / "out", file_format=file_format)
    assert list(row_counts) == [table.name for table in EXPORTED]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        ["run.json", *(f"{table.name}.{file_format}" for table in EXPORTED)]
    )
    for table in TABLES:
        expected = run.query(f"SELECT * FROM {table.name} ORDER BY {', '.join(table.order)}")
        file = tmp_path / "out" / f"{table.name}.{file_format}"
        if file_format == "csv":
            exported = pa_csv.read_csv(file)
            assert exported.column_names == expected.column_names
        else:
            exported = pq.read_table(file) if file_format == "parquet" else pa.ipc.open_file(file).read_all()
            assert exported.to_pylist() == expected.to_pylist()
            assert exported.schema.metadata[b"about"].decode() == table.about
            assert exported.schema.field(0).metadata[b"about"].decode() == table.columns[0].about
        assert exported.num_rows == row_counts[table.name] == expected.num_rows
    count = duckdb.sql(f"SELECT count(*) FROM '{store}/runs/one/activations/*/*.parquet'").fetchall()[0][0]
    assert row_counts["activations"] == count > 0


def test_only_selected_tables_are_exported(store: Path, tmp_path: Path):
    assert list(export_run(Store(store).run("one"), tmp_path / "out", tables=["labels"])) == ["labels"]


def test_a_failed_export_leaves_nothing(store: Path, tmp_path: Path):
    run = Store(store).run("one")
    with pytest.raises(StoreError, match="is not a table"):
        export_run(run, tmp_path / "a", tables=["label"])
    with pytest.raises(StoreError, match="is not a format"):
        export_run(run, tmp_path / "a", file_format="ods")
    (tmp_path / "existing").mkdir()
    with pytest.raises(StoreError, match="exists"):
        export_run(run, tmp_path / "existing")

    class Interrupted(NoProgress):
        def advance(self, steps: int = 1) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_run(run, tmp_path / "b", progress=Interrupted())
    assert [path.name for path in tmp_path.iterdir()] == ["existing"]
