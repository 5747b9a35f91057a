"""A list has the same rows in every format: CSV, XLSX, Parquet and Arrow equal the JSON."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from litestar.testing import TestClient

from tests.support.factories import LABELS
from tests.support.service import RUN, UNEVEN, get, segment
from tests.support.xlsx_cells import sheet_rows

BASE = f"/v1/runs/{RUN}"
LISTS = [
    "/v1/runs",
    f"{BASE}/labels",
    f"{BASE}/labels/{segment(LABELS[1])}/features",
    f"{BASE}/specificity",
    f"{BASE}/features",
    f"{BASE}/layers/0/features/1/labels",
    f"{BASE}/layers/0/features/1/tokens",
    f"{BASE}/layers/0/features/1/contexts",
    f"{BASE}/layers/0/features/1/documents",
    f"{BASE}/documents",
    f"{BASE}/documents/{segment(f'{LABELS[1]}-001')}/features",
    f"/v1/runs/{UNEVEN}/layers/0/features/3/labels",
]
"""Lists with nulls, with lists in cells, with structs."""

READERS = {
    "parquet": ("application/vnd.apache.parquet", lambda data: pq.read_table(io.BytesIO(data)).to_pylist()),
    "arrow": (
        "application/vnd.apache.arrow.stream",
        lambda data: pa.ipc.open_stream(io.BytesIO(data)).read_all().to_pylist(),
    ),
    "xlsx": ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", sheet_rows),
    "csv": ("text/csv", lambda data: list(csv.DictReader(io.StringIO(data.decode())))),
}


def as_csv(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case list() | dict():
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        case _:
            return json.dumps(value)


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("format_", READERS)
def test_every_format_has_the_same_rows(client: TestClient, path: str, format_: str):
    media_type, read = READERS[format_]
    rows = get(client, path)["items"]
    assert rows
    response = client.get(path, params={"format": format_})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].split(";")[0] == media_type
    items = read(response.content)
    if format_ == "csv":
        assert [list(row) for row in items] == [list(row) for row in rows]
        for row, expected in zip(items, rows, strict=True):
            for name, cell in row.items():
                if isinstance(expected[name], float):
                    assert float(cell) == expected[name]
                elif not isinstance(expected[name], dict | list):
                    assert cell == as_csv(expected[name])
                else:
                    assert json.loads(cell) == expected[name]
    elif format_ == "xlsx":
        for row, expected in zip(items, rows, strict=True):
            assert list(row) == list(expected)
            for name, value in expected.items():
                cell = json.loads(row[name]) if isinstance(value, dict | list) else row[name]
                assert cell == (pytest.approx(value, rel=1e-14) if isinstance(value, float) else value), name
    else:
        assert items == rows
    accepted = client.get(path, headers={"Accept": f"text/html;q=0.3, {media_type}"})
    assert accepted.content == response.content
    changing = path == "/v1/runs" or path.endswith("/specificity")
    assert accepted.headers["content-type" if changing else "etag"]


def test_an_empty_list_has_its_columns(client: TestClient):
    response = client.get(f"{BASE}/features", params={"min_cohens_d": 1e9, "format": "arrow"})
    table = pa.ipc.open_stream(io.BytesIO(response.content)).read_all()
    assert table.num_rows == 0
    full = pa.ipc.open_stream(io.BytesIO(client.get(f"{BASE}/features", params={"format": "arrow"}).content)).read_all()
    assert table.schema == full.schema
    assert str(full.schema.field("top_tokens").type) == "list<item: string>"


@pytest.mark.parametrize("format_", READERS)
def test_the_next_page_is_a_link(client: TestClient, format_: str):
    path = f"{BASE}/labels/{segment(LABELS[1])}/features"
    first = client.get(path, params={"limit": 7, "format": format_})
    rows = READERS[format_][1](first.content)
    assert len(rows) == 7
    address = first.headers["link"].removeprefix("<").partition(">")[0]
    assert first.headers["link"].endswith('rel="next"')
    second = READERS[format_][1](client.get(address).content)
    both = READERS[format_][1](client.get(path, params={"limit": 14, "format": format_}).content)
    assert rows + second == both


def test_fields_can_be_selected(client: TestClient):
    path = f"{BASE}/features"
    full = get(client, path, limit=3)
    selected = get(client, path, limit=3, fields="feature,layer,top_tokens")
    assert [list(row) for row in selected["items"]] == [["feature", "layer", "top_tokens"]] * 3
    assert selected["items"] == [
        {name: row[name] for name in ("feature", "layer", "top_tokens")} for row in full["items"]
    ]
    assert selected["next"] == full["next"]
    text = client.get(path, params={"limit": 2, "fields": "feature,density", "format": "csv"}).text
    assert text.splitlines()[0] == '"feature","density"'


@pytest.mark.parametrize(
    ("parameters", "field", "fix"),
    [
        ({"fields": "feature,weight"}, "fields", "top_tokens"),
        ({"fields": ","}, "fields", "density"),
        ({"format": "xml"}, "format", "parquet"),
        ({"format": "CSV"}, "format", "csv"),
    ],
)
def test_unknown_fields_and_formats_are_refused(client: TestClient, parameters: dict[str, str], field: str, fix: str):
    response = client.get(f"{BASE}/features", params=parameters)
    assert response.status_code == 400
    assert response.json()["field"] == field
    assert fix in response.json()["fix"]


@pytest.mark.parametrize("accept", ["*/*", "text/html", "application/json;q=0.1", "", "a;q=x", "text/csv;q=0"])
def test_json_is_the_default_format(client: TestClient, accept: str):
    assert client.get(f"{BASE}/features", headers={"Accept": accept}).headers["content-type"] == "application/json"


def test_only_lists_have_formats(client: TestClient):
    assert client.get(f"{BASE}/layers/0/features/1?format=csv").status_code == 400
