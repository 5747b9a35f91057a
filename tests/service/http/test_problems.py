"""Every failure is a problem document that names the field and hides the machine; every error has its page."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import httpx
import pytest
from litestar.testing import TestClient

import tegakari
from tegakari.schemas.errors import error_classes
from tegakari.service.http.problems import PROBLEM_JSON
from tegakari.store import queries
from tegakari.store.queries.cursor import write_cursor
from tests.support.factories import LABELS, make_run
from tests.support.service import RUN, client_of, get, segment

ERRORS = {error.slug: error for error in error_classes()}
DOCS = Path(__file__).parents[3] / "docs"
FEATURES = f"/v1/runs/{RUN}/labels/{segment(LABELS[0])}/features"
FEATURE = f"/v1/runs/{RUN}/layers/0/features/0"


@pytest.mark.parametrize(
    ("path", "status", "slug", "field", "detail"),
    [
        ("/v1/runs/nope", 404, "not-found", "run", "'nope'"),
        ("/v1/runs/nope/labels/a/features?x=1", 404, "not-found", "run", "'nope'"),
        (f"/v1/runs/{RUN}/labels/nope", 404, "not-found", "label", "'nope'"),
        (f"{FEATURES}?layer=7", 404, "not-found", "layer", "7"),
        (f"/v1/runs/{RUN}/layers/7/features/0", 404, "not-found", "layer", "7"),
        (f"/v1/runs/{RUN}/layers/0/features/40", 404, "not-found", "feature", "40"),
        (f"/v1/runs/{RUN}/layers/0/features/{10**30}", 404, "not-found", "feature", "0 to 39"),
        (f"/v1/runs/{RUN}/layers/abc/features/0", 400, "bad-parameter", "layer", "'abc'"),
        (f"/v1/runs/{RUN}/layers/0/features/1.5", 400, "bad-parameter", "feature", "'1.5'"),
        (f"/v1/runs/{RUN}/layers/-1/features/0", 400, "bad-parameter", "layer", "'-1'"),
        (f"{FEATURES}?layer=abc", 400, "bad-parameter", "layer", "'abc'"),
        (f"{FEATURES}?layer=-1", 404, "not-found", "layer", "-1"),
        (f"{FEATURES}?layer={'9' * 5000}", 400, "bad-parameter", "layer", "999"),
        (f"{FEATURES}?pooling=median", 400, "bad-parameter", "pooling", "'median'"),
        (f"{FEATURES}?min_cohens_d=large", 400, "bad-parameter", "min_cohens_d", "'large'"),
        (f"{FEATURES}?min_cohens_d=nan", 400, "bad-parameter", "min_cohens_d", "nan"),
        (f"{FEATURES}?min_cohens_d=-inf", 400, "bad-parameter", "min_cohens_d", "-inf"),
        (f"{FEATURES}?variety=rare", 400, "bad-parameter", "variety", "'rare'"),
        (f"{FEATURES}?limit=0", 400, "bad-parameter", "limit", "'0'"),
        (f"{FEATURES}?limit=1001", 400, "bad-parameter", "limit", "'1001'"),
        (f"{FEATURES}?limit=", 400, "bad-parameter", "limit", "without a value"),
        (f"{FEATURES}?limit", 400, "bad-parameter", "limit", "without a value"),
        (f"{FEATURES}?limit=1&limit=2", 400, "bad-parameter", "limit", "more than once"),
        (f"{FEATURES}?cursor=abc", 400, "bad-cursor", "cursor", "cursor"),
        (f"{FEATURES}?cursor=%E8%BB%8A", 400, "bad-cursor", "cursor", "cursor"),
        (f"{FEATURES}?Limit=1", 400, "bad-parameter", "Limit", "'Limit'"),
        (f"{FEATURES}?%E8%BB%8A=1", 400, "bad-parameter", "車", "'車'"),
        (f"{FEATURE}?tokens=11", 400, "bad-parameter", "tokens", "11"),
        (f"{FEATURE}?tokens=-1", 400, "bad-parameter", "tokens", "-1"),
        (f"{FEATURE}?pooling=Last", 400, "bad-parameter", "pooling", "'Last'"),
        ("/v1/runs?limit=1", 400, "bad-parameter", "limit", "'limit'"),
        ("/healthz?x=", 400, "bad-parameter", "x", "'x'"),
        ("/v2", 404, "not-found", None, "/v2"),
        ("/nowhere", 404, "not-found", None, "/nowhere"),
        ("/schema/nope", 404, "not-found", None, "/schema/nope"),
        ("/schema/static/../openapi.py", 404, "not-found", None, "openapi.py"),
        ("/schema/static/%2E%2E%2Fopenapi.py", 404, "not-found", None, "openapi.py"),
    ],
)
def test_failures_are_problems(client: TestClient, path: str, status: int, slug: str, field: str | None, detail: str):
    response = client.get(path)
    problem = response.json()
    assert response.headers["content-type"] == PROBLEM_JSON
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    assert (response.status_code, problem["status"]) == (status, status)
    assert problem["type"] == f"/docs/errors/{slug}"
    assert problem["title"] == ERRORS[slug].title
    assert problem["field"] == field
    assert detail in problem["detail"]
    assert problem["fix"]
    assert problem.keys() == {"type", "title", "status", "detail", "field", "fix"}


@pytest.mark.parametrize(
    ("path", "fix"),
    [
        (f"{FEATURES}?limit=5000", "use a number from 1 to 1000"),
        (f"{FEATURES}?limit=0", "use a number from 1 to 1000"),
        (f"/v1/runs/{RUN}/layers/-1/features/0", "use 0 or more"),
    ],
)
def test_the_fix_of_a_number_out_of_range_names_the_range(client: TestClient, path: str, fix: str):
    response = client.get(path)
    assert (response.status_code, response.json()["fix"]) == (400, fix)


def test_the_fix_of_an_unknown_parameter_lists_the_known_ones(client: TestClient):
    assert (
        "layer, pooling, min_cohens_d, variety, onset, limit, cursor" in client.get(f"{FEATURES}?lable=1").json()["fix"]
    )
    assert "no parameters" in client.get(f"/v1/runs/{RUN}?page=2").json()["fix"]
    assert "known parameters: format, fields" in client.get("/v1/runs?page=2").json()["fix"]


@pytest.mark.parametrize("key", [10**9, -1, 2**70, True, 1.5, None, "1", [1]])
def test_a_forged_key_in_a_cursor_is_refused(client: TestClient, store: Path, key: object):
    run = get(client, f"/v1/runs/{RUN}")
    query = f"label_features {run['fingerprint'][:16]} 0 None last None None"
    for forged in (write_cursor(query, key), write_cursor(query, (key,))):  # pyright: ignore
        response = client.get(FEATURES, params={"cursor": forged})
        assert response.status_code == 400, response.text
        assert response.json()["field"] == "cursor"


def test_other_methods_are_refused_with_the_allowed_ones(client: TestClient):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        response = client.request(method, "/v1/runs")
        assert response.status_code == 405
        assert response.json()["type"] == "/docs/errors/method-not-allowed"
        assert "GET" in response.headers["allow"]
        assert method in response.json()["detail"]


def test_an_unexpected_error_is_logged_and_not_shown(client: TestClient, monkeypatch, capsys):
    def fail(run: object) -> None:
        raise ZeroDivisionError("secret in /srv/models")

    monkeypatch.setattr(queries, "labels", fail)
    response = client.get(f"/v1/runs/{RUN}/labels")
    assert response.status_code == 500
    assert response.json()["type"] == "/docs/errors/internal-error"
    assert "secret" not in response.text
    assert "Zero" not in response.text
    assert "etag" not in response.headers
    logged = capsys.readouterr()
    assert "secret in /srv/models" in logged.out + logged.err


@pytest.mark.parametrize("damage", ["run.json", "index.duckdb"])
def test_a_damaged_run_is_a_problem_without_its_path(tmp_path: Path, damage: str):
    make_run(tmp_path, "good", layers=1)
    make_run(tmp_path, "bad", layers=1)
    file = tmp_path / "runs" / "bad" / damage
    file.write_bytes(file.read_bytes()[:50])
    with client_of(tmp_path) as client:
        response = client.get("/v1/runs/bad/labels")
        assert response.status_code == 500
        assert response.json()["type"] == "/docs/errors/bad-store"
        assert str(tmp_path) not in response.text
        assert get(client, "/v1/runs/good/labels")["items"]
        names = [run["run"] for run in get(client, "/v1/runs")["items"]]
        assert "good" in names


def test_every_error_has_a_page_and_every_page_an_error():
    assert {page.stem for page in (DOCS / "errors").glob("*.md")} == ERRORS.keys()


def test_a_slug_names_one_error():
    assert len(list(error_classes())) == len(ERRORS)


def test_errors_are_defined_in_one_file():
    """An error of another file would have no page; the client's errors carry the problem of a response instead."""
    for file in Path(tegakari.__file__).parent.rglob("*.py"):
        relative = file.relative_to(Path(tegakari.__file__).parent).as_posix()
        if relative not in ("schemas/errors.py", "client/errors.py"):
            assert not re.search(
                r"^class \w+\(\w*(TegakariError|StoreError|ModelError)\)", file.read_text("utf-8"), re.M
            ), file


@pytest.mark.parametrize("slug", ERRORS)
def test_a_page_has_title_status_and_fix(slug: str):
    page = (DOCS / "errors" / f"{slug}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {slug}\n")
    assert ERRORS[slug].title in page
    assert str(ERRORS[slug].status) in page
    assert "## What to do" in page


@pytest.mark.parametrize("slug", ERRORS)
def test_the_type_of_every_error_is_a_page_of_the_service(client: TestClient, slug: str):
    page = client.get(ERRORS[slug].docs_page())
    assert page.status_code == 200, page.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert f"<h1>{slug}</h1>" in page.text
    assert set(re.findall(r'href="([^"]*)"', page.text)) <= {"data:,", "/schema"}


@pytest.mark.parametrize(
    ("address", "detail"),
    [
        ("/v1/runs/demo-jpn/cues?label=自動車".encode(), "not percent-encoded"),
        ("/v1/runs/demo-jpn/labels/自動車".encode(), "not percent-encoded"),
        (b"/v1/runs?x=\xff", "not percent-encoded"),
        (b"/v1/runs?a b", "Invalid HTTP request"),
    ],
)
def test_an_address_that_is_not_encoded_is_a_problem(server: httpx.Client, address: bytes, detail: str):
    url = server.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=60) as connection:
        connection.sendall(b"GET " + address + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        response = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert b"content-type: application/problem+json" in head
    problem = json.loads(body)
    assert problem["type"] == "/docs/errors/bad-request"
    assert detail in problem["detail"]
    assert problem["fix"]
