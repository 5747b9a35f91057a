"""Routes of notes: the list in every format, one note per author, and who may write in whose name."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from tegakari.schemas.keys import KeyScope
from tegakari.schemas.notes import MAX_TEXT
from tegakari.service.admission.keys import create_key
from tegakari.service.app import create_app
from tests.support.factories import make_run

RUN = "drawn"
NOTES = f"/v1/runs/{RUN}/notes"
NOTE = f"/v1/runs/{RUN}/layers/1/features/3/note"


@contextmanager
def client_of(store: Path, keys: Path | None = None) -> Iterator[TestClient[Any]]:
    app = create_app(store, keys=keys)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def store(tmp_path: Path) -> Path:
    make_run(tmp_path / "store", RUN)
    return tmp_path / "store"


@pytest.fixture
def client(store: Path) -> Iterator[TestClient[Any]]:
    with client_of(store) as client:
        yield client


def write(client: TestClient[Any], path: str = NOTE, **change: Any) -> dict[str, Any]:
    response = client.patch(path, json=change)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_note_is_written_changed_listed_and_deleted(client: TestClient[Any]):
    note = write(client, author="Ann", starred=True, tags=["車", "b"], text="軽トラ <b>")
    assert note == {
        "layer": 1,
        "feature": 3,
        "author": "Ann",
        "starred": True,
        "tags": ["車", "b"],
        "text": "軽トラ <b>",
        "created": note["created"],
        "updated": note["updated"],
    }
    assert client.get(NOTES).json() == {"items": [note], "next": None}
    changed = write(client, author="Ann", text="other")
    assert (changed["starred"], changed["tags"], changed["text"]) == (True, ["車", "b"], "other")
    deleted = client.delete(NOTE, params={"author": "Ann"})
    assert (deleted.status_code, deleted.json()) == (200, changed)
    assert client.get(NOTES).json()["items"] == []
    assert client.delete(NOTE, params={"author": "Ann"}).status_code == 404


def test_a_list_has_pages_filters_and_formats(client: TestClient[Any]):
    for feature in range(5):
        write(
            client, NOTE.replace("/3/", f"/{feature}/"), author="Ann", starred=feature % 2 == 0, text=f"note {feature}"
        )
    first = client.get(NOTES, params={"limit": 2}).json()
    second = client.get(NOTES, params={"limit": 2, "cursor": first["next"]}).json()
    assert [row["feature"] for row in first["items"] + second["items"]] == [0, 1, 2, 3]
    assert [row["feature"] for row in client.get(NOTES, params={"starred": "true"}).json()["items"]] == [0, 2, 4]
    assert [row["feature"] for row in client.get(NOTES, params={"q": "NOTE 3"}).json()["items"]] == [3]
    assert [row["feature"] for row in client.get(NOTES, params={"layer": 1, "feature": 4}).json()["items"]] == [4]
    listed = client.get(NOTES, params={"format": "csv", "fields": "feature,text"})
    assert list(csv.reader(io.StringIO(listed.text)))[1] == ["0", "note 0"]
    assert client.get(NOTES).headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"text": "x"}, "author"),
        ({"author": "", "text": "x"}, "author"),
        ({"author": "A", "text": "x" * (MAX_TEXT + 1)}, "text"),
        ({"author": "A", "tags": ["a,b"]}, "tags[0]"),
        ({"author": "A", "tags": ["a"] * 21}, "tags"),
        ({"author": "A", "starred": "yes"}, "starred"),
        ({"author": "A", "colour": "red"}, "colour"),
    ],
)
def test_a_wrong_body_is_refused_with_its_field(client: TestClient[Any], change: dict[str, Any], field: str | None):
    response = client.patch(NOTE, json=change)
    problem = response.json()
    assert response.status_code == 400, problem
    assert problem["field"] == field
    assert problem["fix"]
    assert len(problem["detail"]) < 300
    assert client.get(NOTES).json()["items"] == []


def test_notes_need_a_feature_of_the_run(client: TestClient[Any]):
    for path in (NOTE.replace("/1/", "/9/"), NOTE.replace("/3/", "/999/"), NOTE.replace(RUN, "other")):
        assert client.patch(path, json={"author": "A", "text": "x"}).status_code == 404
    missing = client.delete(NOTE)
    assert (missing.status_code, missing.json()["field"]) == (400, "author")


def test_a_form_or_a_page_of_another_origin_cannot_write(client: TestClient[Any]):
    body = {"author": "A", "starred": True}
    foreign = client.patch(NOTE, json=body, headers={"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"})
    assert foreign.status_code == 403
    assert client.patch(NOTE, data=body).status_code == 415
    assert client.get(NOTES).json()["items"] == []


def test_the_author_is_the_name_of_the_key(store: Path, tmp_path: Path):
    file = tmp_path / "keys.json"
    scopes: dict[str, KeyScope] = {"Reader": "read", "Ann": "compute", "Chief": "admin"}
    keys = {name: {"Authorization": f"Bearer {create_key(file, name, scope)[0]}"} for name, scope in scopes.items()}
    with client_of(store, file) as client:
        assert client.patch(NOTE, json={"starred": True}).status_code == 401
        assert client.patch(NOTE, json={"starred": True}, headers=keys["Reader"]).status_code == 403
        written = client.patch(NOTE, json={"starred": True}, headers=keys["Ann"])
        assert (written.status_code, written.json()["author"]) == (200, "Ann")
        forged = client.patch(NOTE, json={"starred": False, "author": "Chief"}, headers=keys["Ann"])
        assert (forged.status_code, forged.json()["field"]) == (403, "author")
        assert "Ann" in forged.json()["detail"]
        client.patch(NOTE, json={"text": "imported", "author": "Bob"}, headers=keys["Chief"])
        assert client.delete(NOTE, params={"author": "Bob"}, headers=keys["Ann"]).status_code == 403
        authors = [row["author"] for row in client.get(NOTES, headers=keys["Reader"]).json()["items"]]
        assert authors == ["Ann", "Bob"]
        assert client.delete(NOTE, params={"author": "Bob"}, headers=keys["Chief"]).status_code == 200
        assert client.delete(NOTE, headers=keys["Ann"]).status_code == 200
