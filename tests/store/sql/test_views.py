"""Views of SQL have the rows of the runs' tables and files."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from tegakari.schemas.analysis_kinds import AnalysisKind
from tegakari.schemas.errors import StoreError
from tegakari.schemas.tables import ACTIVATIONS, TABLES
from tegakari.store import Store
from tegakari.store.results import publish_analysis
from tegakari.store.sql.views import connect
from tests.support.factories import make_run

RUNS = ["one", "two"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    make_run(directory, "one", seed=1)
    make_run(directory, "two", seed=2, layers=2)
    return directory


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_view_has_the_rows_of_all_runs(store: Path, table):
    order = ", ".join(table.order)
    connection = connect(store, RUNS)
    for run in RUNS:
        view = connection.sql(f"SELECT * EXCLUDE run FROM {table.name} WHERE run = '{run}' ORDER BY {order}")
        table_rows = Store(store).run(run).query(f"SELECT * FROM {table.name} ORDER BY {order}")
        assert view.to_arrow_table().to_pylist() == table_rows.to_pylist()
    count = connection.sql(f"SELECT count(*) FROM {table.name}").fetchall()
    assert count == [(sum(Store(store).run(run).query(f"FROM {table.name}").num_rows for run in RUNS),)]


def test_the_view_of_activations_has_the_rows_of_the_parquet_files(store: Path):
    columns = ["layer", *(column.name for column in ACTIVATIONS.columns)]
    view = connect(store, RUNS).sql(f"SELECT {', '.join(columns)} FROM activations WHERE run = 'two' ORDER BY ALL")
    files = sorted((store / "runs" / "two" / "activations").rglob("*.parquet"))
    expected = [
        (int(file.parent.name.removeprefix("layer=")), *row.values())
        for file in files
        for row in pq.ParquetFile(file).read().to_pylist()
    ]
    assert expected
    assert view.fetchall() == sorted(expected)


def test_a_condition_on_the_run_leaves_the_others_unread(store: Path):
    plan = connect(store, RUNS).sql("EXPLAIN SELECT count(*) FROM features WHERE run = 'one'").fetchall()[0][1]
    assert "run_0" in plan
    assert "run_1" not in plan


def test_runs_and_analyses_have_views(store: Path):
    class Settings(msgspec.Struct):
        k: int

    class Result(msgspec.Struct):
        recall: float

    kind, manifest = AnalysisKind("knockout", Settings, Result), Store(store).run("one").manifest
    publish_analysis(store, kind, [manifest], Settings(3), Result(0.5), {}, seconds=1, versions={})
    connection = connect(store, RUNS)
    assert connection.sql("SELECT run, layers FROM runs ORDER BY run").fetchall() == [("one", 3), ("two", 2)]
    query = "SELECT run, settings->>'k', (result->>'recall')::DOUBLE FROM analyses WHERE kind = 'knockout'"
    assert connection.sql(query).fetchall() == [("one", "3", 0.5)]


def test_a_store_without_runs_has_empty_views(tmp_path: Path):
    connection = connect(tmp_path, [])
    for table in (*TABLES, ACTIVATIONS):
        assert connection.sql(f"SELECT run, {table.order[0]} FROM {table.name}").fetchall() == []
    assert connection.sql("FROM runs").fetchall() == []


def test_a_missing_run_is_an_error(store: Path):
    with pytest.raises(StoreError, match="three"):
        connect(store, ["three"])
