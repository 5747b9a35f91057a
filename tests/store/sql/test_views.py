"""SQL over all runs: the views hold what the runs hold, one run at a time or together; files say the same."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from tegakari.schemas.errors import NotFoundError, SqlError
from tegakari.schemas.tables import ACTIVATIONS, TABLES
from tegakari.store import Store
from tegakari.store.results import publish_analysis
from tegakari.store.sql.query import run_query, write_rows
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
def test_a_view_is_the_tables_of_the_runs(store: Path, table):
    order = ", ".join(table.order)
    connection = connect(store, RUNS)
    for run in RUNS:
        seen = connection.sql(f"SELECT * EXCLUDE run FROM {table.name} WHERE run = '{run}' ORDER BY {order}")
        own = Store(store).run(run).query(f"SELECT * FROM {table.name} ORDER BY {order}")
        assert seen.to_arrow_table().to_pylist() == own.to_pylist()
    count = connection.sql(f"SELECT count(*) FROM {table.name}").fetchall()
    assert count == [(sum(Store(store).run(run).query(f"FROM {table.name}").num_rows for run in RUNS),)]


def test_activations_are_the_parquet_files(store: Path):
    columns = ["layer", *(column.name for column in ACTIVATIONS.columns)]
    seen = connect(store, RUNS).sql(f"SELECT {', '.join(columns)} FROM activations WHERE run = 'two' ORDER BY ALL")
    files = sorted((store / "runs" / "two" / "activations").rglob("*.parquet"))
    expected = [
        (int(file.parent.name.removeprefix("layer=")), *row.values())
        for file in files
        for row in pq.ParquetFile(file).read().to_pylist()
    ]
    assert expected
    assert seen.fetchall() == sorted(expected)


def test_a_condition_on_the_run_leaves_the_others_unread(store: Path):
    plan = connect(store, RUNS).sql("EXPLAIN SELECT count(*) FROM features WHERE run = 'one'").fetchall()[0][1]
    assert "run_0" in plan
    assert "run_1" not in plan


def test_runs_and_analyses_are_there(store: Path):
    class Asked(msgspec.Struct):
        k: int

    class Found(msgspec.Struct):
        recall: float

    manifest = Store(store).run("one").manifest
    publish_analysis(store, "knockout", [manifest], Asked(3), Found(0.5), {}, seconds=1, versions={})
    connection = connect(store, RUNS)
    assert connection.sql("SELECT run, layers FROM runs ORDER BY run").fetchall() == [("one", 3), ("two", 2)]
    query = "SELECT run, settings->>'k', (result->>'recall')::DOUBLE FROM analyses WHERE kind = 'knockout'"
    assert connection.sql(query).fetchall() == [("one", "3", 0.5)]


def test_a_store_without_runs_has_empty_views(tmp_path: Path):
    connection = connect(tmp_path, [])
    for table in (*TABLES, ACTIVATIONS):
        assert connection.sql(f"SELECT run, {table.order[0]} FROM {table.name}").fetchall() == []
    assert connection.sql("FROM runs").fetchall() == []


def test_a_run_that_is_not_there_is_said(store: Path):
    with pytest.raises((NotFoundError, Exception), match="three"):
        connect(store, ["three"])


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT none FROM labels", "none"),
        ("SELECT label::INTEGER FROM labels", "Could not convert"),
        ("SELECT error('boom') FROM range(30000)", "boom"),
    ],
)
def test_wrong_queries_are_said(store: Path, query: str, words: str):
    with pytest.raises(SqlError, match=words):
        run_query(store, RUNS, query).read_all()


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv", "json"])
def test_rows_are_the_same_in_every_format(store: Path, form: str):
    query = "SELECT run, layer, feature, density, top_tokens FROM features ORDER BY run, layer, feature"
    expected = run_query(store, RUNS, query).read_all()
    sink = io.BytesIO()
    assert write_rows(sink, run_query(store, RUNS, query), form) == expected.num_rows
    sink.seek(0)
    read = {
        "parquet": pq.read_table,
        "arrow": lambda file: pa.ipc.open_file(file).read_all(),
        "csv": pa_csv.read_csv,
        "json": lambda file: pa.Table.from_pylist(json.load(file)),
    }[form](sink)
    rows = read.to_pylist()
    if form == "csv":
        rows = [{**row, "top_tokens": json.loads(row["top_tokens"])} for row in rows]
    assert rows == expected.to_pylist()


def test_an_empty_answer_is_valid_json(store: Path):
    sink = io.BytesIO()
    assert write_rows(sink, run_query(store, RUNS, "SELECT 1 AS x WHERE false"), "json") == 0
    assert json.loads(sink.getvalue()) == []
