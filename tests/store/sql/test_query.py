"""SQL of the store's owner: errors, and rows in every file format."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

import tegakari
from tegakari.schemas.errors import SqlError
from tegakari.store.disk.layout import MANIFEST, run_directory
from tegakari.store.sql.query import run_query, write_rows
from tests.support.factories import make_run
from tests.support.service import client_of

RUNS = ["one", "two"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    for seed, name in enumerate(RUNS):
        make_run(directory, name, seed=seed)
    return directory


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT none FROM labels", "none"),
        ("SELECT label::INTEGER FROM labels", "Could not convert"),
        ("SELECT error('boom') FROM range(30000)", "boom"),
    ],
)
def test_wrong_queries_are_errors(store: Path, query: str, words: str):
    with pytest.raises(SqlError, match=words):
        run_query(store, RUNS, query).read_all()


@pytest.mark.parametrize("file_format", ["parquet", "arrow", "csv", "json"])
def test_rows_are_the_same_in_every_format(store: Path, file_format: str):
    query = "SELECT run, layer, feature, density, top_tokens FROM features ORDER BY run, layer, feature"
    expected = run_query(store, RUNS, query).read_all()
    sink = io.BytesIO()
    assert write_rows(sink, run_query(store, RUNS, query), file_format) == expected.num_rows
    sink.seek(0)
    table = {
        "parquet": pq.read_table,
        "arrow": lambda file: pa.ipc.open_file(file).read_all(),
        "csv": pa_csv.read_csv,
        "json": lambda file: pa.Table.from_pylist(json.load(file)),
    }[file_format](sink)
    rows = table.to_pylist()
    if file_format == "csv":
        rows = [{**row, "top_tokens": json.loads(row["top_tokens"])} for row in rows]
    assert rows == expected.to_pylist()


def test_a_result_without_rows_is_valid_json(store: Path):
    sink = io.BytesIO()
    assert write_rows(sink, run_query(store, RUNS, "SELECT 1 AS x WHERE false"), "json") == 0
    assert json.loads(sink.getvalue()) == []


def test_a_damaged_or_stray_run_hides_no_other(tmp_path: Path):
    for name in ("one", "damaged"):
        make_run(tmp_path, name)
    (run_directory(tmp_path, "damaged") / MANIFEST).write_bytes(b"{}")
    (tmp_path / "runs" / "Stray").mkdir()
    (tmp_path / "runs" / "Stray" / MANIFEST).write_bytes(b"{}")
    assert tegakari.open(tmp_path).sql("SELECT run FROM labels GROUP BY run").column("run").to_pylist() == ["one"]
    with client_of(tmp_path) as client:
        response = client.post("/v1/sql", json={"sql": "SELECT run FROM labels GROUP BY run"})
    assert response.json()["items"] == [{"run": "one"}]
