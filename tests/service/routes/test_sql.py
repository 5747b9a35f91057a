"""SQL over the runs: rows, formats, and wrong queries."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from litestar.testing import TestClient

from tegakari.store import Store
from tests.support.factories import LABELS, Case
from tests.support.live_case import LiveCase
from tests.support.service import RUN, UNEVEN
from tests.support.xlsx_cells import sheet_rows


def sql(client: TestClient, text: str, **options: Any) -> dict[str, Any]:
    response = client.post("/v1/sql", json={"sql": text, **options})
    assert response.status_code == 200, response.text
    return response.json()


def test_all_runs_are_one_table(client: TestClient):
    result = sql(client, "SELECT run, count(*) AS n FROM labels GROUP BY run ORDER BY run")
    assert result["items"] == [{"run": RUN, "n": len(LABELS)}, {"run": UNEVEN, "n": len(LABELS)}]
    assert result["columns"] == [{"name": "run", "type": "string"}, {"name": "n", "type": "int64"}]
    assert (result["truncated"], result["next"]) == (False, None)


def test_rows_are_those_of_the_store(client: TestClient, store, case: Case):
    run = Store(store).run(RUN)
    for table in ("labels", "documents", "features", "feature_labels", "top_tokens", "specificity", "confusion"):
        counted = sql(client, f"SELECT count(*) AS n FROM {table} WHERE run = $run", parameters={"run": RUN})
        assert counted["items"] == run.rows(f"SELECT count(*) AS n FROM {table}")
    pooled = sum(int((case.pooled(layer, "head") > 0).sum()) for layer in range(3))
    assert sql(client, f"SELECT count(*) AS n FROM activations WHERE run = '{RUN}'")["items"] == [{"n": pooled}]
    assert sql(client, "SELECT run, documents FROM runs", runs=[RUN])["items"] == [{"run": RUN, "documents": 36}]


def test_labels_of_every_kind_are_bound_as_they_are(client: TestClient):
    for label in (*LABELS, "' OR 1=1 --", "\x00", "\\"):
        result = sql(client, "SELECT count(*) AS n FROM labels WHERE label = $label", parameters={"label": label})
        assert result["items"] == [{"n": 2 if label in LABELS else 0}]


def test_rows_beyond_the_limit_are_marked_as_truncated(client: TestClient):
    result = sql(client, "FROM range(10) t(x)", limit=3)
    assert [row["x"] for row in result["items"]] == [0, 1, 2]
    assert result["truncated"]
    assert not sql(client, "FROM range(3) t(x)", limit=3)["truncated"]
    response = client.post("/v1/sql?format=csv", json={"sql": "FROM range(10)", "limit": 3})
    assert response.headers["tegakari-truncated"] == "true"


@pytest.mark.parametrize("by_header", [False, True])
@pytest.mark.parametrize("format_", ["csv", "xlsx", "parquet", "arrow"])
def test_other_formats_have_the_same_rows(client: TestClient, format_: str, by_header: bool):
    media_types = {
        "csv": "text/csv",
        "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "parquet": "application/vnd.apache.parquet",
    }
    headers = {"accept": media_types.get(format_, "application/vnd.apache.arrow.stream")} if by_header else {}
    body = {"sql": "SELECT label, f1 FROM labels ORDER BY run, label_id"}
    response = client.post("/v1/sql", params={} if by_header else {"format": format_}, json=body, headers=headers)
    assert response.status_code == 200, response.text
    read = {
        "xlsx": lambda raw: pa.Table.from_pylist(sheet_rows(raw)),
        "csv": lambda raw: pa_csv.read_csv(io.BytesIO(raw)),
        "parquet": lambda raw: pq.read_table(io.BytesIO(raw)),
        "arrow": lambda raw: pa.ipc.open_stream(raw).read_all(),
    }
    assert read[format_](response.content).to_pylist() == sql(client, body["sql"])["items"]


def test_formulas_and_long_texts_in_spreadsheets(client: TestClient):
    response = client.post("/v1/sql?format=xlsx", json={"sql": "SELECT '=1+1' AS text, -1 AS number"})
    assert sheet_rows(response.content) == [{"text": "=1+1", "number": -1}]
    response = client.post("/v1/sql?format=xlsx", json={"sql": "SELECT repeat('x', 32768) AS text"})
    assert (response.status_code, response.json()["field"]) == (400, "format")
    assert "32,767" in response.json()["detail"]


def test_values_of_every_type_are_encoded(client: TestClient):
    (row,) = sql(
        client,
        "SELECT 1 a, 2 a, 170141183460469231731687303715884105727 AS huge, 'x'::BLOB AS raw, DATE '2026-01-02' AS day, "
        "1.50::DECIMAL(5, 2) AS price, [1, NULL] AS list, {'k': 1} AS struct, MAP {'k': 1} AS map, "
        "'nan'::DOUBLE AS nan, NULL AS nothing, INTERVAL 1 HOUR AS span, gen_random_uuid() IS NOT NULL AS id",
    )["items"]
    assert (row["a"], row["a_2"]) == (1, 2)
    assert Decimal(row["huge"]) == 2**127 - 1
    assert (row["day"], row["price"], row["list"], row["struct"]) == ("2026-01-02", "1.50", [1, None], {"k": 1})
    assert (row["nan"], row["nothing"], row["id"]) == (None, None, True)


WRONG = [
    ({"sql": "SELEC 1"}, "bad-sql", "sql"),
    ({"sql": "SELECT nothing FROM labels"}, "bad-sql", "sql"),
    ({"sql": "SELECT $a", "parameters": {}}, "bad-sql", "sql"),
    ({"sql": "SELECT 1", "parameters": {"a": 1}}, "bad-sql", "sql"),
    ({"sql": "SELECT DATE '200000-01-01'"}, "bad-sql", "format"),
    ({"sql": ""}, "bad-request", "sql"),
    ({"sql": "x" * 100_001}, "bad-request", "sql"),
    ({"sql": "SELECT 1", "limit": 0}, "bad-request", "limit"),
    ({"sql": "SELECT 1", "limit": 10**9}, "bad-request", "limit"),
    ({"sql": "SELECT 1", "seconds": 0}, "bad-request", "seconds"),
    ({"sql": "SELECT 1", "seconds": 10**9}, "bad-request", "seconds"),
    ({"sql": "SELECT 1", "runs": []}, "bad-parameter", "runs"),
    ({"sql": "SELECT 1", "runs": ["../x"]}, "bad-request", "runs"),
    ({"sql": "SELECT 1", "runs": ["no-such-run"]}, "not-found", "runs"),
    ({"sql": "SELECT 1", "memory": "1TB"}, "bad-request", None),
]


@pytest.mark.parametrize(("body", "slug", "field"), WRONG)
def test_wrong_requests_are_refused(client: TestClient, body: dict[str, Any], slug: str, field: str | None):
    response = client.post("/v1/sql", json=body)
    assert response.status_code in (400, 404), response.text
    problem = response.json()
    assert problem["type"] == f"/docs/errors/{slug}"
    if field:
        assert problem["field"].startswith(field)
    assert "/tmp" not in problem["detail"], "a path of this machine"


def test_an_unknown_format_is_refused(client: TestClient):
    response = client.post("/v1/sql?format=xml", json={"sql": "SELECT 1"})
    assert (response.status_code, response.json()["field"]) == (400, "format")


def test_tables_can_be_joined(live_case: LiveCase):
    """What the page on SQL shows: features of a label with their tokens."""
    result = sql(
        live_case.client,
        "SELECT l.label, fl.layer, fl.feature, fl.d_max AS d, f.top_tokens FROM feature_labels fl "
        "JOIN labels l USING (run, label_id) JOIN features f USING (run, layer, feature) "
        "WHERE l.label = $label ORDER BY d DESC LIMIT 3",
        parameters={"label": "車/軽"},
    )
    expected = live_case.client.get("/v1/runs/small/labels/%E8%BB%8A%2F%E8%BB%BD/features?limit=3").json()["items"]
    assert [(row["layer"], row["feature"]) for row in result["items"]] == [
        (row["layer"], row["feature"]) for row in expected
    ]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1 AS a, 2 AS a, 3 AS a_2", [1, 2, 3]),
        ("SELECT 1 AS a_2, 2 AS a, 3 AS a, 4 AS a_3, 5 AS a", [1, 2, 3, 4, 5]),
        ("SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a_2, 5 AS a_2_2", [1, 2, 3, 4, 5]),
    ],
)
def test_no_column_is_lost_to_another_of_its_name(client: TestClient, sql: str, expected: list[int]):
    result = client.post("/v1/sql", json={"sql": sql}).json()
    names = [column["name"] for column in result["columns"]]
    assert len(set(names)) == len(expected)
    assert [result["items"][0][name] for name in names] == expected
