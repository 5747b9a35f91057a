"""Drawn spellings of the paths of all routes: without a key only public routes answer, and nothing fails."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st
from litestar.routes import HTTPRoute

from tegakari.service.admission.gate import MAX_ADDRESS
from tests.support.asgi import AsgiClient, KeyedClient
from tests.support.factories import LABELS
from tests.support.fuzzing import TEXTS, drawn
from tests.support.service import RUN

VALUES = {
    "run": RUN,
    "label": LABELS[0],
    "layer": "0",
    "feature": "1",
    "document": f"{LABELS[0]}-000",
    "predicted": LABELS[1],
    "knockout": "0" * 32,
    "analysis": "0" * 32,
    "explanation": "0" * 16,
    "slug": "busy",
    "path": "openapi.json",
    "file_path": "rapidoc-min.js",
}

PUBLIC = ("/healthz", "/readyz", "/docs/errors/", "/schema", "/explorer/", "/sign-in", "/language")
"""Beginnings of the public paths."""

JSON = ((b"host", b"127.0.0.1"), (b"content-type", b"application/json"))
BODY = b'{"sql": "SELECT 1", "texts": ["a"], "label": "a", "layer": 0}'


def routes(client: AsgiClient) -> list[HTTPRoute]:
    return sorted((route for route in client.app.routes if isinstance(route, HTTPRoute)), key=lambda route: route.path)


def segments_of(template: str) -> list[str]:
    """Segments of a route's path, with values that exist."""
    names = [segment[1:-1].partition(":")[0] if segment.startswith("{") else "" for segment in template.split("/")]
    return [VALUES[name] if name else segment for name, segment in zip(names, template.split("/"), strict=True)]


@st.composite
def spelled(draw: st.DrawFn, segments: list[str]) -> bytes:
    """A spelling of a path, most of which mean the path to some program between client and service."""
    parts = []
    for segment in segments[1:]:
        encode_letter = draw(st.sampled_from([0, 0, 0, 1, 2]))
        letters = quote(segment, safe="")
        if encode_letter == 1:
            letters = "".join(f"%{byte:02x}" for byte in segment.encode())
        elif encode_letter == 2:
            letters = letters.replace("%", "%25")
        parts.append(draw(st.sampled_from([letters, letters, letters, letters.upper(), letters + ";a=b"])))
    separator = st.sampled_from(["/", "/", "/", "//", "/./", "/x/../", "%2f", "%2F", "\\", "/%2e/", "/..;/"])
    path = "".join(draw(separator) + part for part in parts)
    front = draw(
        st.sampled_from(["", "", "", "/", "/.", "/healthz/..", "/schema/static/..", "/docs/errors/../..", "/%2e"])
    )
    end = draw(
        st.sampled_from(["", "", "", "/", "//", "/.", "%00", "%20", "%0d%0a", "?", "?format=csv", "/..", ";", "%ff"])
    )
    return (front + path + end).encode()


def test_no_spelling_answers_without_a_key(keyed: KeyedClient):
    client = keyed.client

    @drawn(400)
    @given(
        data=st.data(), route=st.sampled_from(routes(client)), method=st.sampled_from(["GET", "HEAD", "POST", "DELETE"])
    )
    def check(data: st.DataObject, route: HTTPRoute, method: str) -> None:
        target = data.draw(spelled(segments_of(route.path)))
        response = client.request(method, target, JSON, BODY)
        shown = response.body if response.status == 200 else b""
        assert response.status in (200, 400, 401, 404, 405, 414)
        if response.status == 200:
            # What a public route serves is the same for everybody.
            assert any(route.path.startswith(beginning) for beginning in PUBLIC), (target, shown[:200])
        assert RUN.encode() not in shown
        assert "自動車".encode() not in shown

    check()


def test_a_key_that_reads_changes_and_computes_nothing(keyed: KeyedClient):
    client = keyed.client
    headers = (*JSON, (b"authorization", f"Bearer {keyed.read_key}".encode()))

    @drawn(200)
    @given(
        data=st.data(),
        route=st.sampled_from(routes(client)),
        method=st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]),
    )
    def check(data: st.DataObject, route: HTTPRoute, method: str) -> None:
        response = client.request(method, data.draw(spelled(segments_of(route.path))), headers, BODY)
        assert response.status in (400, 403, 404, 405, 414)

    check()


def test_drawn_values_of_a_path_never_fail(client: AsgiClient):
    readable = [route for route in routes(client) if "GET" in route.methods and "{" in route.path]

    @drawn(300)
    @given(data=st.data(), route=st.sampled_from(readable))
    def check(data: st.DataObject, route: HTTPRoute) -> None:
        parts = [
            data.draw(st.one_of(st.just(value), TEXTS.map(lambda text: text or "x")))
            if template.startswith("{")
            else value
            for template, value in zip(route.path.split("/"), segments_of(route.path), strict=True)
        ]
        target = "/".join(quote(part, safe="") for part in parts).encode()
        response = client.request("GET", target)
        assert response.status in (200, 400, 404, 409, 414), response.body
        if response.status not in (200,):
            is_page = route.path.startswith(("/runs/", "/knockouts/"))
            problem = "text/html; charset=utf-8" if is_page else "application/problem+json"
            assert response.header("content-type") in (problem, None), response

    check()


@drawn(60)
@given(raw=st.binary(max_size=30).filter(lambda raw: b"?" not in raw))
def test_raw_bytes_in_a_path_never_fail(client: AsgiClient, raw: bytes):
    for front in (b"/", b"/v1/runs/", b"/docs/errors/", b"/schema/static/"):
        assert client.request("GET", front + raw).status in (200, 304, 400, 404, 405)


def test_long_addresses_are_refused_before_the_router_keeps_them(keyed: KeyedClient):
    client = keyed.client
    kept = client.app.asgi_router.handle_routing.cache_info().currsize
    for number in range(30):
        for target in (
            b"/docs/errors/%d" % number + b"a" * MAX_ADDRESS,
            b"/docs/errors/%d" % number + b"%ff" * (MAX_ADDRESS // 9 + 1),
            b"/docs/errors/busy?%d=" % number + b"a" * MAX_ADDRESS,
            b"/v1/runs?%d=" % number + b"a" * MAX_ADDRESS,
        ):
            response = client.request("GET", target)
            assert response.status == 414
            assert b"long-address" in response.body
    assert client.app.asgi_router.handle_routing.cache_info().currsize == kept
    assert client.request("GET", b"/docs/errors/busy" + b"?a=" + b"a" * 8000).status == 400
