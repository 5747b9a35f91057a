"""Views of SQL have the rows of the runs' tables and files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tegakari.schemas.analysis_kinds import AnalysisKind
from tegakari.schemas.errors import StoreError
from tegakari.schemas.tables import ACTIVATIONS, CONTEXTS, TABLES
from tegakari.store import Store
from tegakari.store.disk.layout import ACTIVATIONS as ACTIVATIONS_DIRECTORY
from tegakari.store.disk.layout import DATABASE, MANIFEST, run_directory
from tegakari.store.results import Analysis, publish_analysis
from tegakari.store.sql.sandbox import SandboxRequest, execute
from tegakari.store.sql.views import connect
from tests.support.factories import make_run

RUNS = ["one", "two"]


class Settings(msgspec.Struct):
    k: int


class Result(msgspec.Struct):
    recall: float


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


def test_the_view_of_contexts_leaves_out_runs_that_have_none(store: Path, tmp_path: Path):
    columns = ["layer", *(column.name for column in CONTEXTS.columns)]
    view = connect(store, RUNS).sql(f"SELECT {', '.join(columns)} FROM contexts WHERE run = 'two' ORDER BY ALL")
    expected = [
        (int(file.parent.name.removeprefix("layer=")), *row.values())
        for file in sorted((store / "runs" / "two" / "contexts").rglob("part-0.parquet"))
        for row in pq.ParquetFile(file).read().to_pylist()
    ]
    assert expected
    assert view.fetchall() == sorted(expected)
    make_run(tmp_path, "old", run_format=3)
    view = connect(tmp_path, ["old"]).sql("SELECT layer, activations FROM contexts")
    assert view.fetchall() == []
    assert [str(kind) for kind in view.types] == ["INTEGER", "FLOAT[]"]


def test_a_condition_on_the_run_leaves_the_others_unread(store: Path):
    plan = connect(store, RUNS).sql("EXPLAIN SELECT count(*) FROM features WHERE run = 'one'").fetchall()[0][1]
    assert "run_0" in plan
    assert "run_1" not in plan


def test_runs_and_analyses_have_views(store: Path):
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


def add_analyses(store: Path, run: str, n: int) -> list[Path]:
    """Directories of n small analyses of a run."""
    kind, manifest = AnalysisKind("knockout", Settings, Result), Store(store).run(run).manifest
    return [
        publish_analysis(store, kind, [manifest], Settings(k), Result(0.5), {}, seconds=1, versions={}).directory
        for k in range(n)
    ]


def sandboxed(store: Path, sql: str, runs: list[str]) -> list[dict[str, Any]]:
    request = SandboxRequest(store=str(store), runs=runs, sql=sql, parameters={}, rows=10, bytes=2**20, seconds=30)
    reply, stream = execute(request)
    assert reply.error is None, reply.error
    return pa.ipc.open_stream(stream).read_all().to_pylist()


def test_a_query_opens_only_what_it_names(tmp_path: Path):
    make_run(tmp_path, "one")
    directory = run_directory(tmp_path, "one")
    (directory / DATABASE).write_bytes(b"damaged")
    shutil.rmtree(directory / ACTIVATIONS_DIRECTORY)
    assert sandboxed(tmp_path, "SELECT run FROM runs", ["one"]) == [{"run": "one"}]
    (directory / MANIFEST).write_bytes(b"damaged")
    assert sandboxed(tmp_path, "SELECT 1 AS x", ["one"]) == [{"x": 1}]
    assert sandboxed(tmp_path, "SHOW TABLES", ["one"])


def test_analyses_are_read_by_a_query_that_scans_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_run(tmp_path, "one")
    add_analyses(tmp_path, "one", 3)
    reads: list[Path] = []
    original = Analysis.result_json
    monkeypatch.setattr(Analysis, "result_json", lambda self: reads.append(self.directory) or original(self))
    connection = connect(tmp_path, ["one"])
    assert connection.sql("SELECT count(*) FROM labels, runs").fetchall()
    assert connection.sql("DESCRIBE analyses").fetchall()
    assert reads == []
    joined = connection.sql("SELECT count(*) FROM analyses AS a, analyses AS b WHERE a.result = b.result")
    assert joined.fetchall() == [(9,)]
    assert len(reads) == 3


def test_a_damaged_analysis_hides_no_other(tmp_path: Path):
    make_run(tmp_path, "one")
    without_result, without_manifest, _ = add_analyses(tmp_path, "one", 3)
    (without_result / "result.json").unlink()
    (without_manifest / "analysis.json").write_bytes(b"\xff")
    (tmp_path / "analyses" / "stray.txt").write_text("x")
    (tmp_path / "analyses" / "knockout" / "stray").mkdir()
    query = "SELECT settings->>'k' AS k FROM analyses"
    assert sandboxed(tmp_path, query, ["one"]) == [{"k": "2"}]
    assert connect(tmp_path, ["one"]).sql(query).fetchall() == [("2",)]
