"""HTTP as an attacker reads it: methods, ranges, codings, headers that split responses, labels of metrics."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar.routes import HTTPRoute

from tegakari.schemas.config import ServiceConfig
from tegakari.schemas.errors import NoKeyError
from tegakari.service.admission.keys import KeyRing, create_key
from tests.support.asgi import AsgiClient, asgi_client
from tests.support.factories import LABELS, make_run
from tests.support.service import RUN, segment

HOST = (b"host", b"127.0.0.1")
JSON = (HOST, (b"content-type", b"application/json"))

VALUES = {
    "run": RUN,
    "label": segment(LABELS[0]),
    "layer": "0",
    "feature": "1",
    "document": segment(f"{LABELS[0]}-000"),
    "predicted": segment(LABELS[1]),
    "knockout": "0" * 32,
    "analysis": "0" * 32,
    "explanation": "0" * 16,
    "slug": "busy",
    "path": "openapi.json",
    "file_path": "rapidoc-min.js",
}


@pytest.fixture(scope="module")
def client(store: Path) -> Iterator[AsgiClient]:
    with asgi_client(store) as client:
        yield client


def paths(client: AsgiClient) -> list[tuple[str, set[str]]]:
    """Every route's path with values that exist, and its methods."""
    routes = (route for route in client.app.routes if isinstance(route, HTTPRoute))
    return [
        (re.sub(r"\{(\w+):\w+\}", lambda match: VALUES[match[1]], route.path), set(route.methods)) for route in routes
    ]


def test_head_is_get_without_a_body(client: AsgiClient):
    for path, methods in paths(client):
        if "GET" in methods:
            got, head = client.request("GET", path.encode()), client.request("HEAD", path.encode())
            assert head.status == got.status, path
            changing = {b"x-request-id", b"content-length"} if path == "/metrics" else {b"x-request-id"}
            assert [pair for pair in head.headers if pair[0] not in changing] == [
                pair for pair in got.headers if pair[0] not in changing
            ], path
            # The server leaves the body out; the application may only send that of GET.
            assert head.body in (b"", got.body) or path == "/metrics", path


@pytest.mark.parametrize(
    "method", ["OPTIONS", "TRACE", "CONNECT", "PUT", "PATCH", "LINK", "PROPFIND", "get", "X" * 5000]
)
def test_other_methods_do_nothing_on_any_route(client: AsgiClient, method: str):
    for path, methods in paths(client):
        if method != "OPTIONS" and method in methods:
            continue
        response = client.request(method, path.encode(), JSON, b'{"texts": ["a"], "sql": "SELECT 1"}')
        if method == "OPTIONS":
            assert response.status == 204, path
            assert set((response.header("allow") or "").split(", ")) <= methods
            assert response.body == b""
        else:
            assert response.status == 405, (path, response)
            assert b"SELECT" not in response.body, "TRACE repeats what it was sent"


@pytest.mark.parametrize(
    "value", ["bytes=0-1", "bytes=-1", "bytes=5-2", "bytes=" + "0-1," * 2000, "bytes=0-,0-,0-,0-", "rows=1-2", "x"]
)
def test_ranges_are_ignored(client: AsgiClient, value: str):
    for path in ("/schema/static/rapidoc-min.js", "/schema/openapi.json", f"/v1/runs/{RUN}/labels"):
        whole = client.request("GET", path.encode())
        response = client.request("GET", path.encode(), (HOST, (b"range", value.encode())))
        assert (response.status, response.body) == (200, whole.body)
        assert response.header("content-range") is None


def test_a_body_with_a_coding_is_not_decoded(client: AsgiClient):
    """A bomb of compressed zeros is refused as the few bytes that it is."""
    import gzip

    bomb = gzip.compress(b" " * 50_000_000)
    sent = (*JSON, (b"content-encoding", b"gzip"), (b"content-length", b"%d" % len(bomb)))
    assert client.request("POST", f"/v1/runs/{RUN}/classify".encode(), sent, bomb).status == 400


SPLITTING = "a\r\nSet-Cookie: x=1\r\n\r\n<script>alert(1)</script>\u2028\x1b[2J"


def test_labels_and_ids_of_a_run_never_split_a_response(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whoever makes a run decides its labels: they stand in bodies, links and cursors."""
    from tests.support import factories

    monkeypatch.setattr(factories, "LABELS", (SPLITTING, *LABELS[1:]))
    make_run(tmp_path, RUN, layers=1, d_sae=8, documents_per_label=3)
    label, document = segment(SPLITTING), segment(f"{SPLITTING}-000")
    with asgi_client(tmp_path) as client:
        for path in (
            f"labels/{label}",
            f"labels/{label}/features?limit=1&format=csv",
            f"labels/{label}/features?limit=1&format=parquet",
            "labels?format=csv",
            f"documents?label={label}&limit=1&format=csv",
            f"documents/{document}",
            f"documents/{document}/features?limit=1&format=arrow",
            f"labels/{label}x",
            f"search?q={label}",
        ):
            response = client.request("GET", f"/v1/runs/{RUN}/{path}".encode())
            assert response.status in (200, 404), (path, response.body)
            for name, value in response.headers:
                assert not re.search(rb"[\r\n\0]|set-cookie", name + value.lower()), (path, name, value)
            assert response.header("x-content-type-options") == "nosniff"
            assert not (response.header("content-type") or "").startswith("text/html")
            if response.header("content-type") in ("application/json", "application/problem+json"):
                assert b"\r" not in response.body
                assert b"\x1b" not in response.body
                json.loads(response.body)


def test_client_values_make_no_new_labels_of_metrics(tmp_path: Path):
    """Each label would take memory for ever: there are as many as routes, methods and statuses."""
    make_run(tmp_path, RUN, layers=1, d_sae=8, documents_per_label=2)
    with asgi_client(tmp_path) as client:

        def series() -> set[bytes]:
            lines = client.request("GET", b"/metrics").body.splitlines()
            return {line.rpartition(b" ")[0] for line in lines if not line.startswith(b"#")}

        def send(number: int) -> None:
            for method, target in (
                ("GET", f"/v1/runs/{number}"),
                ("GET", f"/{number}"),
                ("GET", f"/v1/runs/{RUN}/labels/{number}?x={number}"),
                (f"M{number}", "/v1/runs"),
                ("GET", f"/docs/errors/{number}"),
                ("GET", "/" + "a" * (8200 + number)),
            ):
                headers = (HOST, (b"x-request-id", str(number).encode()), (b"user-agent", str(number).encode()))
                client.request(method, target.encode(), headers)

        for number in range(5):
            send(number)
        before = series()
        for number in range(1000, 1060):
            send(number)
        assert series() == before


def test_every_wrong_key_is_compared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The time of an answer tells nothing: unknown ids, malformed and wrong keys take the same steps."""
    file = tmp_path / "keys.json"
    key, record = create_key(file, "reader", "read")
    ring = KeyRing(file)
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def counted(first: str, second: str) -> bool:
        compared.append((len(first), len(second)))
        return compare(first, second)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    for wrong in (
        "x",
        key[:-1],
        key[:-1] + "\u00e9",
        key + "a",
        f"tgk_{record.id}_{'a' * 43}",
        f"tgk_00000000_{'a' * 43}",
    ):
        compared.clear()
        with pytest.raises(NoKeyError, match="unknown"):
            ring.check(f"Bearer {wrong}", "")
        assert compared == [(64, 64)], wrong
    assert ring.check(f"Bearer {key}", "").id == record.id


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key.upper(),
        lambda key: key.replace("tgk", "ｔｇｋ"),
        lambda key: key.replace("_", "\uff3f"),
        lambda key: f"{key}\u0301",
        lambda key: f"\ufeff{key}",
        lambda key: f"{key}\0",
        lambda key: f"{key},{key}",
        lambda key: f'"{key}"',
        lambda key: key[:20] + "\u200b" + key[20:],
    ],
    ids=range(9),
)
def test_no_other_spelling_of_a_key_is_the_key(store: Path, tmp_path: Path, change: object):
    key, _ = create_key(tmp_path / "keys.json", "reader", "read")
    assert callable(change)
    wrong = change(key).encode()
    with asgi_client(store, keys=tmp_path / "keys.json") as client:
        for header in ((b"authorization", b"Bearer " + wrong), (b"x-api-key", wrong), (b"authorization", wrong)):
            assert client.request("GET", b"/v1/runs", (HOST, header)).status == 401
        assert client.request("GET", b"/v1/runs?key=" + key.encode(), (HOST,)).status == 401
        assert client.request("GET", b"/v1/runs", (HOST, (b"cookie", b"key=" + key.encode()))).status == 401
        assert client.request("GET", b"/v1/runs", (HOST, (b"x-api-key", key.encode()))).status == 200


@pytest.mark.parametrize(
    "name",
    ["ＤＥＭＯ-jpn", "DEMO-JPN", "demo-jpn\n", "demo-jpn ", "de\u006do-jpn\u0301", "demo\u2010jpn", "\ufeffdemo-jpn"],
)
def test_no_other_spelling_of_a_name_is_the_run(client: AsgiClient, name: str):
    assert client.request("GET", f"/v1/runs/{segment(name)}".encode()).status == 404
    for query in (f"/v1/compare?runs={segment(name)},{RUN}", f"/v1/compare/features?runs={segment(name)},{RUN}"):
        assert client.request("GET", query.encode()).status in (400, 404)
    body = json.dumps({"sql": "SELECT 1", "runs": [name]}).encode()
    assert client.request("POST", b"/v1/sql", JSON, body).status in (400, 404)


def test_labels_are_compared_as_they_are_spelled(client: AsgiClient):
    """Two labels that look the same are two labels."""
    for label in ("自動車", "自動車"):
        response = client.request("GET", f"/v1/runs/{RUN}/labels/{segment(label)}".encode())
        assert response.status == (200 if label == LABELS[0] else 404)
    for label in ("自動車\u200b", "自動車 ", "自動車\ufe00", "車/軽/", "車%2F軽"):
        assert client.request("GET", f"/v1/runs/{RUN}/labels/{segment(label)}".encode()).status == 404


def test_no_forwarded_address_evades_the_rate(store: Path):
    with asgi_client(store, ServiceConfig(log="off", warm="off", requests_per_second=2)) as client:
        statuses = [
            client.request(
                "GET",
                b"/v1/runs",
                (
                    HOST,
                    (b"x-forwarded-for", b"10.0.0.%d" % n),
                    (b"forwarded", b"for=10.0.0.%d" % n),
                    (b"x-real-ip", b"::%d" % n),
                ),
            ).status
            for n in range(20)
        ]
    assert statuses.count(429) >= 15
