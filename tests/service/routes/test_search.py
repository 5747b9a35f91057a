"""Route of the search of documents by words."""

from __future__ import annotations

import pytest
from litestar.testing import TestClient

from tests.support.factories import Case
from tests.support.service import RUN, UNEVEN, get

BASE = f"/v1/runs/{RUN}"


def test_japanese_words_match(client: TestClient, case: Case):
    rows = get(client, f"{BASE}/search", q="味噌汁", limit=1000)["items"]
    assert {row["document"] for row in rows} == {
        document.id for document in case.documents if "味噌汁" in document.text
    }
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        (f"{BASE}/search", 400, "q"),
        (f"{BASE}/search?q=%20", 400, "q"),
        (f"/v1/runs/{UNEVEN}/search?q=a", 404, "run"),
    ],
)
def test_wrong_parameters_are_refused(client: TestClient, path: str, status: int, field: str):
    response = client.get(path)
    assert (response.status_code, response.json()["field"]) == (status, field), response.text
