"""Routes of explanations: lists, one's own text, votes, and who may write in whose name."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from tegakari.schemas.explanations import MAX_EXPLANATION, Explanation, explanation_id
from tegakari.service.admission.keys import create_key
from tegakari.service.app import create_app
from tegakari.store import Store
from tegakari.store.explanations import add_explanations
from tests.support.factories import make_run

RUN = "drawn"
LIST = f"/v1/runs/{RUN}/explanations"
OF_FEATURE = f"/v1/runs/{RUN}/layers/1/features/3/explanations"
OF_MODEL = explanation_id(1, 3, "model", "tiny", "vehicles")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("service") / "store"
    make_run(store, RUN)
    row = Explanation(
        id=OF_MODEL,
        layer=1,
        feature=3,
        text="vehicles",
        language="en",
        method="model",
        author="tiny",
        model="tiny",
        created="2026-11-27T00:00:00+00:00",
    )
    add_explanations(Store(store).run(RUN), [row])
    return store


@pytest.fixture(scope="module")
def client(store: Path) -> Iterator[TestClient[Any]]:
    with TestClient(create_app(store), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def test_an_explanation_is_written_voted_on_listed_and_deleted(client: TestClient[Any]):
    body = {"author": "Ann", "text": "軽トラ <b>"}
    written = client.post(OF_FEATURE, json=body)
    assert written.status_code == 200
    row = written.json()
    assert (row["text"], row["language"], row["method"]) == ("軽トラ <b>", "ja", "person")
    assert client.post(OF_FEATURE, json=body).json() == row
    voted = client.post(f"{OF_FEATURE}/{row['id']}/vote", json={"author": "Bob", "value": -1}).json()
    assert [(vote["author"], vote["value"]) for vote in voted["votes"]] == [("Bob", -1)]
    assert [item["id"] for item in client.get(OF_FEATURE).json()["items"]] == [OF_MODEL, row["id"]]
    client.post(f"{OF_FEATURE}/{row['id']}/vote", json={"author": "Bob", "value": 0})
    assert [item["id"] for item in client.get(OF_FEATURE).json()["items"]] == [row["id"], OF_MODEL]
    assert client.get(LIST, params={"q": "軽トラ"}).json()["items"] == [row]
    listed = client.get(LIST, params={"format": "csv", "fields": "feature,text", "method": "model"})
    assert list(csv.reader(io.StringIO(listed.text))) == [["feature", "text"], ["3", "vehicles"]]
    assert client.get(LIST).headers["cache-control"] == "no-cache"
    first = client.get(LIST, params={"limit": 1}).json()
    second = client.get(LIST, params={"limit": 1, "cursor": first["next"]}).json()
    assert {first["items"][0]["id"], second["items"][0]["id"]} == {OF_MODEL, row["id"]}
    where = f"{OF_FEATURE}/{row['id']}"
    assert client.delete(where, params={"author": "Bob"}).status_code == 404
    assert client.delete(where, params={"author": "Ann"}).json() == row
    assert client.delete(where, params={"author": "Ann"}).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        (OF_FEATURE, {"text": "x"}, 400, "author"),
        (OF_FEATURE, {"author": "A", "text": ""}, 400, "text"),
        (OF_FEATURE, {"author": "A", "text": "x" * (MAX_EXPLANATION + 1)}, 400, "text"),
        (OF_FEATURE, {"author": "A", "text": "x", "language": "Japanese"}, 400, "language"),
        (OF_FEATURE, {"author": "A", "text": "x", "colour": "red"}, 400, "colour"),
        (OF_FEATURE.replace("/3/", "/999/"), {"author": "A", "text": "x"}, 404, "feature"),
        (f"{OF_FEATURE}/{OF_MODEL}/vote", {"author": "A", "value": 2}, 400, "value"),
        (f"{OF_FEATURE}/{'0' * 16}/vote", {"author": "A", "value": 1}, 404, "explanation"),
        (f"{OF_FEATURE.replace('/3/', '/4/')}/{OF_MODEL}/vote", {"author": "A", "value": 1}, 404, "explanation"),
    ],
)
def test_a_wrong_request_is_refused_with_its_field(
    client: TestClient[Any], path: str, body: dict[str, Any], status: int, field: str
):
    response = client.post(path, json=body)
    assert (response.status_code, response.json()["field"]) == (status, field), response.text
    assert response.json()["fix"]


@pytest.mark.parametrize(
    ("name", "value"), [("method", "magic"), ("min_score", "nan"), ("language", "Japanese"), ("limit", 0)]
)
def test_a_wrong_filter_is_refused(client: TestClient[Any], name: str, value: object):
    response = client.get(LIST, params={name: str(value)})
    assert (response.status_code, response.json()["field"]) == (400, name)


def test_a_page_of_another_origin_cannot_write(client: TestClient[Any]):
    headers = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    for path in (OF_FEATURE, f"{OF_FEATURE}/{OF_MODEL}/vote"):
        assert client.post(path, json={"author": "A", "text": "x", "value": 1}, headers=headers).status_code == 403
    form = client.post(OF_FEATURE, data={"author": "A", "text": "x"})
    assert form.status_code == 415


def test_keys_write_in_their_own_name_and_admin_deletes_those_of_models(store: Path, tmp_path: Path):
    keys = tmp_path / "keys.json"
    secrets = {scope: create_key(keys, f"name of {scope}", scope)[0] for scope in ("read", "compute", "admin")}
    with TestClient(create_app(store, keys=keys), base_url="http://127.0.0.1") as client:

        def status(method: str, path: str, scope: str, body: dict[str, Any] | None = None, **params: str) -> int:
            headers = {"X-API-Key": secrets[scope]}
            return client.request(method, path, json=body, params=params, headers=headers).status_code

        assert status("GET", LIST, "read") == 200
        assert status("POST", OF_FEATURE, "read", {"text": "x"}) == 403
        assert status("POST", OF_FEATURE, "compute", {"text": "x", "author": "Ann"}) == 403
        assert status("POST", OF_FEATURE, "compute", {"text": "x"}) == 200
        mine = explanation_id(1, 3, "person", "name of compute", "x")
        assert status("POST", f"{OF_FEATURE}/{mine}/vote", "admin", {"value": 1}) == 200
        assert status("DELETE", f"{OF_FEATURE}/{mine}", "compute") == 200
        assert status("DELETE", f"{OF_FEATURE}/{OF_MODEL}", "compute", author="tiny") == 403
        assert status("DELETE", f"{OF_FEATURE}/{OF_MODEL}", "admin") == 404
        assert status("DELETE", f"{OF_FEATURE}/{OF_MODEL}", "admin", author="tiny") == 200
