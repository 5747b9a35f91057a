"""Without a key no route but the public ones answers, however its path is spelled; a key's scope holds as well."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from litestar.routes import HTTPRoute

from tegakari.service.app import create_app
from tests.support.factories import LABELS
from tests.support.raw_http import message, send_raw, statuses
from tests.support.service import RUN
from tests.support.serving import KeyedServer

PUBLIC_PATHS = {
    "/healthz",
    "/readyz",
    "/docs/errors/{slug:str}",
    "/schema",
    "/schema/openapi.json",
    "/schema/{path:str}",
    "/schema/static/{file_path:path}",
    "/explorer/{file_path:path}",
    "/sign-in",
    "/language",
}
"""The routes that need no key; what they return is part of the package, or `ok`, or an error."""

VALUES = {
    "run": RUN,
    "label": LABELS[0],
    "predicted": LABELS[1],
    "layer": "0",
    "feature": "1",
    "document": f"{LABELS[0]}-000",
    "knockout": "0" * 32,
    "analysis": "0" * 32,
    "explanation": "0" * 16,
    "slug": "busy",
    "file_path": "rapidoc-min.js",
}
"""Values of path parameters that exist."""


def every_letter_encoded(path: str) -> str:
    return "".join(f"%{ord(letter):02x}" if letter.isalnum() and letter.isascii() else letter for letter in path)


def first_letter_encoded(path: str) -> str:
    return f"/%{ord(path[1]):02X}{path[2:]}" if path != "/" else "/"


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda path: path,
    "two slashes in front": lambda path: f"/{path}",
    "three slashes in front": lambda path: f"//{path}",
    "two slashes inside": lambda path: path.replace("/", "//"),
    "a slash at the end": lambda path: f"{path}/",
    "slashes at the end": lambda path: f"{path}///",
    "slashes everywhere": lambda path: f"//{path.replace('/', '///')}//",
    "a dot in front": lambda path: f"/.{path}",
    "a dot at the end": lambda path: f"{path}/.",
    "a parent in front": lambda path: f"/healthz/..{path}",
    "a parent below a public path": lambda path: f"/schema/static/..{path}",
    "an encoded dot": lambda path: f"/%2e{path}",
    "an encoded parent": lambda path: f"/healthz/%2e%2e{path}",
    "the first letter encoded": first_letter_encoded,
    "every letter encoded": every_letter_encoded,
    "letters encoded twice": lambda path: every_letter_encoded(path).replace("%", "%25"),
    "an encoded slash in front": lambda path: f"/%2f{path[1:]}",
    "encoded slashes": lambda path: "/" + path[1:].replace("/", "%2f"),
    "an encoded slash at the end": lambda path: f"{path}%2F",
    "upper case": str.upper,
    "a backslash in front": lambda path: f"/\\{path[1:]}",
    "an encoded backslash": lambda path: f"/%5c{path[1:]}",
    "an encoded NUL at the end": lambda path: f"{path}%00",
    "an encoded space at the end": lambda path: f"{path}%20",
    "a parameter of a segment": lambda path: f"{path};x=1",
    "a query": lambda path: f"{path}?x=/healthz",
    "an empty query": lambda path: f"{path}?",
    "a fragment": lambda path: f"{path}#/healthz",
    "a public path in the fragment": lambda path: f"/healthz#{path}",
    "absolute": lambda path: f"http://127.0.0.1{path}",
    "absolute with two slashes": lambda path: f"http://127.0.0.1/{path}",
    "absolute of another host": lambda path: f"http://healthz{path}",
    "absolute in upper case": lambda path: f"HTTP://LOCALHOST{path}",
    "absolute with a user": lambda path: f"http://healthz@127.0.0.1{path}",
    "overlong UTF-8": lambda path: f"/%c0%af{path[1:]}",
    "full-width letters": lambda path: quote(path.replace("v1", "ｖ１").replace("metrics", "ｍetrics")),
}


def http_routes() -> list[HTTPRoute]:
    return [route for route in create_app(Path("nowhere")).routes if isinstance(route, HTTPRoute)]


def is_public(route: HTTPRoute) -> bool:
    return all("public" in handler.opt for handler in route.route_handlers if "OPTIONS" not in handler.http_methods)


ROUTES = [(route.path, sorted({*route.methods, "HEAD"})) for route in http_routes() if not is_public(route)]


def path_of(template: str) -> str:
    """A path that exists, with `/` and other reserved characters of values encoded."""
    return re.sub(r"\{(\w+):\w+\}", lambda match: quote(VALUES[match[1]], safe=""), template)


def test_only_the_known_routes_are_public():
    assert {route.path for route in http_routes() if is_public(route)} == PUBLIC_PATHS
    assert len(ROUTES) >= 30
    assert {"/metrics", "/v1/sql", "/v1/runs"} <= {path for path, _ in ROUTES}


JSON_HEADERS = {"Host": "127.0.0.1", "Content-Type": "application/json"}
BODY = b'{"sql": "SELECT 1", "texts": ["a"]}'
LAST = message("GET", "/healthz", headers=JSON_HEADERS)


def expected_statuses(method: str, spelling: str) -> set[int]:
    """Statuses that give nothing away."""
    if spelling == "a public path in the fragment":  # the path is /healthz
        return {200, 204, 401}
    if spelling == "a parent below a public path" and method == "OPTIONS":  # the path is one of a static file
        return {204, 404}
    return {400, 401, 404, 405}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_route_answers_without_a_key(keyed_server: KeyedServer, spelling: str):
    requests = [(method, SPELLINGS[spelling](path_of(template))) for template, methods in ROUTES for method in methods]
    messages = [message(method, target, headers=JSON_HEADERS, body=BODY, close=False) for method, target in requests]
    results = statuses(keyed_server.host, keyed_server.port, messages, last=LAST)
    answered = [
        (*request, status)
        for request, status in zip(requests, results, strict=True)
        if status not in expected_statuses(request[0], spelling)
    ]
    assert not answered
    if spelling == "plain":
        assert set(results) == {401}


@pytest.mark.parametrize("spelling", ["plain", "two slashes in front", "absolute", "a slash at the end"])
def test_no_route_answers_to_http_1_0_without_a_key(keyed_server: KeyedServer, spelling: str):
    for template, methods in ROUTES:
        for method in methods:
            sent = message(
                method,
                SPELLINGS[spelling](path_of(template)),
                version="1.0",
                headers={"Content-Type": "application/json"},
                body=BODY,
            )
            assert send_raw(keyed_server.host, keyed_server.port, sent).status in (400, 401, 404, 405), sent


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_key_that_reads_cannot_compute(keyed_server: KeyedServer, spelling: str):
    headers = {**JSON_HEADERS, "Authorization": f"Bearer {keyed_server.read_key}"}
    for path in ("/v1/sql", f"/v1/runs/{RUN}/classify"):
        sent = message("POST", SPELLINGS[spelling](path), headers=headers, body=BODY)
        response = send_raw(keyed_server.host, keyed_server.port, sent)
        assert response.status in (400, 403, 404, 405), (path, response.body)


def test_keys_of_the_right_scope_are_answered(keyed_server: KeyedServer):
    def status(method: str, target: str, key: str, body: bytes = b"") -> int:
        headers = {**JSON_HEADERS, "Authorization": f"Bearer {key}"}
        return send_raw(
            keyed_server.host, keyed_server.port, message(method, target, headers=headers, body=body)
        ).status

    assert status("GET", f"//v1/runs/{RUN}/labels/", keyed_server.read_key) == 200
    assert status("GET", "/metrics/", keyed_server.read_key) == 200
    assert status("POST", "/v1/sql", keyed_server.compute_key, b'{"sql": "SELECT 1"}') == 200
