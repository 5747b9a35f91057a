"""Drawn headers: no failure, no header of the response that the client wrote, the same content in every coding."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tegakari.service.http.headers import preferences
from tests.support.asgi import AsgiClient, KeyedClient
from tests.support.factories import LABELS
from tests.support.fuzzing import drawn
from tests.support.service import RUN, segment

LIST = f"/v1/runs/{RUN}/labels/{segment(LABELS[0])}/features?limit=20".encode()
CANARY = "Canary"
"""Part of every drawn value that is not a known one."""

KNOWN = {
    "accept": [
        "application/json",
        "text/csv",
        "*/*",
        "application/vnd.apache.arrow.stream",
        "text/html",
        "text/markdown",
    ],
    "accept-encoding": ["gzip", "br", "zstd", "identity", "*", "gzip;q=0, br;q=0.5", "gzip;q=nan", "br;q=1e999"],
    "authorization": ["Bearer", "Bearer ", "Basic YTpi", "Bearer tgk_00000000_" + "a" * 43, "bearer  tgk_x_y"],
    "content-length": ["0", "-1", "+5", "1_0", "9" * 30, "5, 5", "٣", "0x10", " 7"],
    "content-type": ["application/json", "text/plain", "application/json; charset=utf-16", "multipart/form-data"],
    "cookie": ["a=b; c=d", "=", ";;;"],
    "expect": ["100-continue"],
    "forwarded": ["for=127.0.0.1;host=evil"],
    "if-none-match": ["*", '"x"', 'W/"x"', '"' * 50, '"a", "b"'],
    "if-modified-since": ["Fri, 27 Nov 2099 00:00:00 GMT"],
    "origin": ["null", "http://127.0.0.1", "https://evil.example", "http://"],
    "prefer": ["respond-async"],
    "range": ["bytes=0-10", "bytes=-5", "bytes=0-1,2-3", "bytes=" + "0-," * 500, "rows=1-2"],
    "sec-fetch-site": ["cross-site", "same-origin", "none", "x"],
    "transfer-encoding": ["chunked", "identity", "gzip, chunked"],
    "upgrade": ["websocket", "h2c"],
    "x-api-key": ["tgk_00000000_" + "a" * 43, "' OR 1=1"],
    "x-forwarded-for": ["10.0.0.1", "a\tb", "::1, evil"],
    "x-forwarded-host": ["evil.example"],
    "x-http-method-override": ["DELETE", "POST"],
    "x-original-url": ["/metrics"],
    "x-request-id": ["abc-1", "a b", "a" * 65, "x:y"],
}
"""Headers and values of theirs that mean something to a server, a framework or a proxy."""

RAW = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20).map(
    lambda text: f"{CANARY}{text}"
)
"""Values that a server passes on: visible bytes, spaces and Latin-1."""


@st.composite
def headers(draw: st.DrawFn) -> list[tuple[bytes, bytes]]:
    names = draw(st.lists(st.sampled_from(sorted(KNOWN)), max_size=6))
    pairs = [(b"host", b"127.0.0.1")]
    for name in names:
        value = draw(st.one_of(st.sampled_from(KNOWN[name]), RAW))
        pairs.append((name.encode(), value.encode("utf-8" if not value.isascii() else "ascii")))
    return pairs


def decoded(body: bytes, coding: str | None, size: int) -> bytes:
    codecs = {"gzip": "gzip", "br": "brotli", "zstd": "zstd"}
    return body if coding is None else pa.Codec(codecs[coding]).decompress(body, size, asbytes=True)


def check_response_headers(pairs: list[tuple[bytes, bytes]]) -> None:
    """Fail on a header that can split a response, that repeats what the client wrote, or that is there twice."""
    for name, value in pairs:
        assert re.fullmatch(rb"[a-z-]+", name.lower())
        assert not re.search(rb"[\r\n\0]", value), (name, value)
        if name == b"x-request-id":  # the client's own, if it is a plain word
            assert re.fullmatch(rb"[A-Za-z0-9._-]{1,64}", value)
        else:
            assert CANARY.lower().encode() not in value.lower(), (name, value)
    names = [name.lower() for name, _ in pairs]
    assert len(names) == len(set(names)), names


@drawn(300)
@given(sent=headers(), method=st.sampled_from(["GET", "HEAD"]))
def test_a_list_is_the_same_whatever_the_headers(client: AsgiClient, sent: list[tuple[bytes, bytes]], method: str):
    response = client.request(method, LIST, sent)
    check_response_headers(response.headers)
    assert response.status in (200, 304)
    if response.status == 200 and response.header("content-type") == "application/json":
        whole = client.request("GET", LIST).body
        assert decoded(response.body, response.header("content-encoding"), len(whole)) == whole


@drawn(200)
@given(
    sent=headers(), target=st.sampled_from([b"/v1/sql", f"/v1/runs/{RUN}/classify".encode(), b"/v1/runs", b"/metrics"])
)
def test_posts_with_drawn_headers_never_fail(client: AsgiClient, sent: list[tuple[bytes, bytes]], target: bytes):
    response = client.request("POST", target, sent, b'{"texts": ["a"]}')
    check_response_headers(response.headers)
    assert response.status in (400, 403, 405, 409, 413, 415)


@drawn(200)
@given(sent=headers(), method=st.sampled_from(["GET", "POST", "DELETE", "OPTIONS"]))
def test_no_header_replaces_a_key(keyed: KeyedClient, sent: list[tuple[bytes, bytes]], method: str):
    response = keyed.client.request(method, LIST, sent)
    check_response_headers(response.headers)
    assert response.status == 401


@drawn(200)
@given(
    host=st.one_of(RAW, st.sampled_from(["127.0.0.1.evil.example", "localhost@evil", "[::1", "127.1", "2130706433"]))
)
def test_no_drawn_host_is_a_name_of_the_service(client: AsgiClient, host: str):
    sent = [(b"host", host.encode())]
    assert client.request("GET", LIST, sent).status == 400
    assert client.request("GET", b"/healthz", sent).status == 400


@pytest.mark.parametrize("value", ["a," * 30_000, "gzip;" * 10_000, "q=" * 30_000, ";q=0.1," * 9000])
def test_long_preferences_are_not_read_to_their_end(client: AsgiClient, value: str):
    assert len(preferences(value)) <= 1024
    sent = [(b"host", b"127.0.0.1"), (b"accept", value.encode()), (b"accept-encoding", value.encode())]
    assert client.request("GET", LIST, sent).status == 200
