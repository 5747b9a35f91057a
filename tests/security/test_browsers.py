"""Pages of other origins: names that were made to resolve to the service, forms, and preflights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from tegakari.schemas.config import ServiceConfig
from tegakari.service.admission.keys import create_key
from tegakari.service.app import create_app
from tests.support.service import RUN

NOTEBOOK = "https://notebook.example"
LABELS_PATH = f"/v1/runs/{RUN}/labels"
QUERY = b'{"sql": "SELECT 1"}'
JSON = {"Content-Type": "application/json"}


ClientOf = Callable[..., TestClient]


@pytest.fixture(scope="module")
def client_of(store: Path) -> Iterator[ClientOf]:
    """A client of an application with a configuration; one application for each configuration."""
    clients: dict[str, TestClient] = {}
    with ExitStack() as stack:

        def open_client(*, keys: Path | None = None, **config: Any) -> TestClient:
            identity = repr((keys, config))
            if identity not in clients:
                app = create_app(store, ServiceConfig(**{"log": "off", **config}), keys=keys)
                client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
                clients[identity] = stack.enter_context(client)
            return clients[identity]

        yield open_client


@pytest.mark.parametrize("path", ["/v1/runs", LABELS_PATH, "/healthz", "/schema", "/metrics", "/nowhere"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example, 127.0.0.1",
        "localhost@evil.example",
        "evil.example#localhost",
        "192.0.2.7",
        "[2001:db8::1]",
        "0x7f000001",
        "",
    ],
)
def test_a_foreign_host_is_refused(client_of: ClientOf, host: str, path: str):
    client = client_of()
    response = client.get(path, headers={"Host": host})
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] in ("/docs/errors/unknown-host", "/docs/errors/bad-request")


def test_two_hosts_are_refused(client_of: ClientOf):
    client = client_of()
    assert client.get("/v1/runs", headers=[("Host", "127.0.0.1"), ("Host", "evil.example")]).status_code == 400


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8765", "localhost.", "127.0.0.1", "127.0.0.2:1", "[::1]:8765", "[::1]"]
)
def test_loopback_names_are_answered(client_of: ClientOf, host: str):
    client = client_of()
    assert client.get("/v1/runs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("config", "host", "status"),
    [
        ({"hosts": ["tegakari.example.org"]}, "tegakari.example.org", 200),
        ({"hosts": ["tegakari.example.org"]}, "Tegakari.Example.org:443", 200),
        ({"hosts": ["tegakari.example.org"]}, "other.example.org", 400),
        ({"hosts": ["tegakari.example.org"]}, "a.tegakari.example.org", 400),
        ({"hosts": ["*"]}, "anything.example", 200),
        ({"host": "box.example"}, "box.example:8765", 200),
        ({"host": "192.0.2.7"}, "192.0.2.7:8765", 200),
        ({"host": "192.0.2.7"}, "192.0.2.8", 400),
        ({"host": "0.0.0.0"}, "192.0.2.7:8765", 200),
        ({"host": "::"}, "[2001:db8::1]:8765", 200),
        ({"host": "0.0.0.0"}, "evil.example", 400),
    ],
)
def test_the_configuration_names_further_hosts(client_of: ClientOf, config: dict[str, Any], host: str, status: int):
    client = client_of(**config)
    assert client.get("/v1/runs", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "application/jsonx",
        "text/json",
        None,
    ],
)
@pytest.mark.parametrize(
    "path", ["/v1/sql", f"/v1/runs/{RUN}/knockouts", f"/v1/runs/{RUN}/classify", f"/v1/runs/{RUN}/encode"]
)
def test_a_body_that_is_not_declared_as_json_is_refused(client_of: ClientOf, path: str, media_type: str | None):
    client = client_of()
    headers = {"Content-Type": media_type} if media_type else {}
    response = client.post(path, content=QUERY, headers=headers)
    assert (response.status_code, response.json()["type"]) == (415, "/docs/errors/wrong-media-type")


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON", "application/json; charset=utf-8"])
def test_a_body_declared_as_json_is_read(client_of: ClientOf, media_type: str):
    client = client_of()
    assert client.post("/v1/sql", content=QUERY, headers={"Content-Type": media_type}).status_code == 200


FOREIGN_PAGES = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:9999"},
    {"Origin": "http://127.0.0.1.evil.example"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:8888"},
    {"Sec-Fetch-Site": "unheard-of"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"},
]
"""Headers that a browser sends with the request of a page; pages cannot change them."""


@pytest.mark.parametrize("headers", FOREIGN_PAGES, ids=str)
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/sql"), ("DELETE", f"/v1/knockouts/{'0' * 32}")])
def test_requests_of_foreign_pages_are_refused(client_of: ClientOf, method: str, path: str, headers: dict[str, str]):
    client = client_of()
    response = client.request(method, path, content=QUERY, headers={**JSON, **headers})
    assert (response.status_code, response.json()["type"]) == (403, "/docs/errors/foreign-page")
    client = client_of(cors_origins=[NOTEBOOK])
    assert client.request(method, path, content=QUERY, headers={**JSON, **headers}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://tegakari.example.org"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": NOTEBOOK},
        {"Origin": NOTEBOOK},
    ],
    ids=str,
)
def test_requests_of_own_and_configured_pages_are_answered(client_of: ClientOf, headers: dict[str, str]):
    client = client_of(cors_origins=[NOTEBOOK])
    assert client.post("/v1/sql", content=QUERY, headers={**JSON, **headers}).status_code == 200


def test_a_preflight_is_answered_as_configured_without_a_key(client_of: ClientOf, tmp_path: Path):
    key, _ = create_key(tmp_path / "keys.json", "page", "compute")
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    client = client_of(keys=tmp_path / "keys.json", cors_origins=[NOTEBOOK])
    for path in ("/v1/sql", "//v1/sql", LABELS_PATH):
        preflight = client.options(path, headers={"Origin": NOTEBOOK, **asked})
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == NOTEBOOK
        assert {"GET", "POST", "PATCH", "DELETE"} == set(preflight.headers["access-control-allow-methods"].split(", "))
        assert "Authorization" in preflight.headers["access-control-allow-headers"]
        assert "Origin" in preflight.headers["vary"]
        refused = client.options(path, headers={"Origin": "https://evil.example", **asked})
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers
    assert client.options(LABELS_PATH, headers={"Origin": NOTEBOOK}).status_code == 401  # no preflight
    # A page reads why its request was refused, and the answer to the one that was not.
    refused = client.get(LABELS_PATH, headers={"Origin": NOTEBOOK})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, NOTEBOOK)
    answer = client.get(LABELS_PATH, headers={"Origin": NOTEBOOK, "Authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, NOTEBOOK)
    assert "ETag" in answer.headers["access-control-expose-headers"]
    client = client_of(keys=tmp_path / "keys.json")
    assert client.options("/v1/sql", headers={"Origin": NOTEBOOK, **asked}).status_code == 401


def test_vary_names_all_headers_that_the_response_depends_on(client_of: ClientOf):
    client = client_of(cors_origins=[NOTEBOOK])
    for origin in (NOTEBOOK, "https://evil.example", None):
        headers = {"Origin": origin} if origin else {}
        for path in (LABELS_PATH, "/docs/errors/busy"):
            vary = set(client.get(path, headers=headers).headers["vary"].split(", "))
            assert vary == {"Accept", "Accept-Encoding", "Origin"}
        tag = client.get(LABELS_PATH, headers=headers).headers["etag"]
        unchanged = client.get(LABELS_PATH, headers={**headers, "If-None-Match": tag})
        assert unchanged.status_code == 304
        assert "Origin" in unchanged.headers["vary"]
    client = client_of()
    assert client.get(LABELS_PATH).headers["vary"] == "Accept, Accept-Encoding"


def test_no_response_lets_a_foreign_page_embed_or_read_it(client_of: ClientOf):
    client = client_of()
    for path in ("/v1/runs", LABELS_PATH, "/schema", "/nowhere"):
        headers = client.get(path, headers={"Origin": "https://evil.example"}).headers
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers
