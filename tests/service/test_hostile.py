"""Hostile input: refused with a problem or ignored, quickly, in bounded memory, and never with a 5xx."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tegakari.schemas.config import ServiceConfig
from tegakari.service.process import slow_clients
from tests.support.factories import LABELS
from tests.support.service import RUN, segment
from tests.support.serving import serving

FEATURES = f"/v1/runs/{RUN}/labels/{segment(LABELS[0])}/features"
CLASSIFY = f"/v1/runs/{RUN}/classify"

HOSTILE_PATHS = {
    "parent directory as a run": "/v1/runs/..",
    "encoded parent directory": "/v1/runs/%2e%2e",
    "encoded slashes": "/v1/runs/..%2f..%2fetc%2fpasswd",
    "twice encoded": "/v1/runs/%252e%252e%252fetc%252fpasswd",
    "overlong UTF-8 of a slash": "/v1/runs/..%c0%afetc",
    "backslashes": "/v1/runs/..%5c..%5cwindows",
    "absolute path": "/v1/runs/%2fetc%2fpasswd",
    "NUL in a run": f"/v1/runs/{RUN}%00.json",
    "NUL in a label": f"/v1/runs/{RUN}/labels/%00",
    "NUL in a document": f"/v1/runs/{RUN}/documents/%00",
    "line break in a run": "/v1/runs/x%0d%0aSet-Cookie:%20a=b",
    "lone surrogate in a label": f"/v1/runs/{RUN}/labels/%ed%a0%80",
    "not UTF-8 in a label": f"/v1/runs/{RUN}/labels/%ff%fe",
    "not UTF-8 in a parameter": f"{FEATURES}?cursor=%ff%fe",
    "lone surrogate in a parameter": f"{FEATURES}?cursor=%ed%a0%80",
    "half an escape": f"/v1/runs/{RUN}/labels/%",
    "wrong escape": f"/v1/runs/{RUN}/labels/%zz",
    "SQL in a label": f"/v1/runs/{RUN}/labels/x'%20OR%201=1%20--",
    "SQL in a document": f"/v1/runs/{RUN}/documents/';DROP%20TABLE%20documents;--",
    "SQL in a parameter": f"/v1/runs/{RUN}/features?token=';ATTACH%20'/etc/passwd'",
    "a million items": f"{FEATURES}?limit=1000000000",
    "a negative number of items": f"{FEATURES}?limit=-1",
    "an integer of five thousand digits": f"{FEATURES}?limit={'9' * 5000}",
    "a layer beyond 64 bits": f"{FEATURES}?layer={2**70}",
    "a feature beyond 64 bits": f"/v1/runs/{RUN}/layers/0/features/{2**70}",
    "infinity": f"{FEATURES}?min_cohens_d=1e999",
    "not a number": f"/v1/runs/{RUN}/features?min_density=nan",
    "a number in other digits": f"{FEATURES}?limit=%EF%BC%95",
    "forged cursor": f"{FEATURES}?cursor=WyJ4IiwxXQ",
    "cursor of nested JSON": f"{FEATURES}?cursor={'W' * 4000}",
    "cursor of base64 rubbish": f"{FEATURES}?cursor=%00%01%02",
    "ten thousand parameters": f"{FEATURES}?{'&'.join(f'a{n}=1' for n in range(5000))}",
    "a thousand segments": "/v1" + "/a" * 1000,
    "a long segment": f"/v1/runs/{'a' * 30_000}",
    "a pattern that backtracks": f"{FEATURES}?variety={'9' * 20_000}x",
    "thousands of fields": f"/v1/runs/{RUN}/features?fields={','.join(['layer'] * 5000)}x",
    "a format with a path": f"/v1/runs/{RUN}/features?format=../../etc/passwd",
    "a static file of another directory": "/schema/static/..%2f..%2fkeys.py",
    "a static file by its absolute path": "/schema/static//etc/passwd",
}


@pytest.fixture(scope="module")
def guarded(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, int]]:
    """A server with small limits, and its process id."""
    directory = tmp_path_factory.mktemp("guarded")
    (directory / "tegakari.toml").write_text(
        f"[service]\nbody_seconds = 1.0\nmax_body_bytes = 100000\nlog = 'off'\n[index]\nstore = '{store}'\n"
    )
    with (
        serving("--config", directory / "tegakari.toml") as (url, process),
        httpx.Client(base_url=url, timeout=20) as client,
    ):
        client.get(FEATURES)
        yield client, process.pid


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match
    return int(match[1]) * 1024


def raw_response(client: httpx.Client, sent: bytes, *, seconds: float = 15) -> bytes:
    """The bytes that the server sends until it closes the connection."""
    address = urlsplit(str(client.base_url))
    with socket.create_connection((address.hostname, address.port), timeout=seconds) as connection:
        received = b""
        with suppress(OSError):  # the server may close the connection before
            connection.sendall(sent)
        with suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                received += piece
        return received


def status_of(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


@pytest.mark.parametrize("name", HOSTILE_PATHS)
def test_hostile_paths_and_parameters(guarded: tuple[httpx.Client, int], name: str):
    client, _ = guarded
    start = time.perf_counter()
    response = raw_response(
        client, f"GET {HOSTILE_PATHS[name]} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )
    assert time.perf_counter() - start < 20
    head, _, body = response.partition(b"\r\n\r\n")
    assert status_of(response) in (200, 400, 404, 414)
    assert b"root:" not in body
    assert b"set-cookie" not in head.lower()
    assert b"Traceback" not in body
    if status_of(response) == 200:
        assert name in ("SQL in a parameter",)
        assert b'"items":[]' in body


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"\x16\x03\x01\x02\x00", {400}),
        (b"GET / HTTP/9.9\r\n\r\n", {400}),
        (b"GET\r\n\r\n", {400}),
        (b"\r\n\r\n\r\n\r\nrubbish", {400}),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHo st: b\r\n\r\n", {400}),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n", {400}),
        (b"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", {400}),
        (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
        (b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n", {400}),
        (b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", {400}),
        (
            b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\n",
            {400, 405},
        ),
        (b"GET http://evil.example/v1/runs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", {200, 400, 404}),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", {400, 404, 405}),
        (b"GET /v1/runs HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n", {400}),
    ],
    ids=range(14),
)
def test_hostile_bytes(guarded: tuple[httpx.Client, int], sent: bytes, expected: set[int]):
    client, _ = guarded
    assert status_of(raw_response(client, sent)) in expected
    assert client.get("/healthz").status_code == 200


def test_a_declared_size_beyond_the_maximum_is_refused_at_once(guarded: tuple[httpx.Client, int]):
    client, _ = guarded
    for length in (b"100001", b"100000000", b"9" * 40):
        start = time.perf_counter()
        sent = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %s\r\n\r\n{" % (CLASSIFY.encode(), length)
        response = raw_response(client, sent)
        assert status_of(response) in (400, 413)
        assert time.perf_counter() - start < 20


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_a_body_of_100_mb_is_not_held_in_memory(guarded: tuple[httpx.Client, int], method: str):
    client, pid = guarded
    before = resident_bytes(pid)

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1_000_000

    path = CLASSIFY if method == "POST" else FEATURES
    with suppress(httpx.WriteError):  # refused and closed while the client was sending
        response = client.request(method, path, content=pieces(), headers={"Content-Type": "application/json"})
        assert response.status_code == {"POST": 413, "GET": 200, "DELETE": 405}[method]
    assert resident_bytes(pid) - before < 30_000_000
    assert client.get("/healthz").status_code == 200


def test_a_slow_body_is_refused(guarded: tuple[httpx.Client, int]):
    client, _ = guarded
    start = time.perf_counter()
    head = f"POST {CLASSIFY} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100"
    response = raw_response(client, f"{head}\r\n\r\n{{".encode())
    assert status_of(response) == 408
    assert b"too-slow" in response
    assert 0.9 < time.perf_counter() - start < 20


def test_a_connection_without_a_request_is_closed(guarded: tuple[httpx.Client, int]):
    client, _ = guarded

    def seconds_until_closed(sent: bytes) -> float:
        start = time.perf_counter()
        assert raw_response(client, sent, seconds=slow_clients.HEADER_SECONDS + 10) == b""
        return time.perf_counter() - start

    with ThreadPoolExecutor(2) as threads:
        for seconds in threads.map(seconds_until_closed, (b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")):
            assert seconds < slow_clients.HEADER_SECONDS + 9


def test_waiting_connections_do_not_hold_up_others(guarded: tuple[httpx.Client, int]):
    client, _ = guarded
    address = urlsplit(str(client.base_url))
    waiting = [socket.create_connection((address.hostname, address.port)) for _ in range(200)]
    try:
        for connection in waiting:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        start = time.perf_counter()
        assert client.get(FEATURES).status_code == 200
        assert time.perf_counter() - start < slow_clients.HEADER_SECONDS
    finally:
        for connection in waiting:
            connection.close()


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 90_000,
        b'{"a":' * 15_000,
        b'{"texts": ["\\ud800"]}',
        b'{"texts": ["\xff"]}',
        b'{"texts": [1e999]}',
        b'{"texts": ["a"], "texts": 5}',
        b"",
        b"null",
        b'{"texts": [' + b'"",' * 20_000 + b'""]}',
    ],
    ids=range(9),
)
def test_hostile_json(guarded: tuple[httpx.Client, int], body: bytes):
    client, _ = guarded
    response = client.post(CLASSIFY, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 409, 413)  # 409: valid, but the run has no model
    assert response.headers["content-type"] == "application/problem+json"


def test_the_limits_are_those_of_the_configuration(guarded: tuple[httpx.Client, int]):
    assert ServiceConfig().max_body_bytes == 10_000_000
    client, _ = guarded
    headers = {"Content-Type": "application/json"}
    assert client.post(CLASSIFY, content=b" " * 100_001, headers=headers).status_code == 413
    assert client.post(CLASSIFY, content=b" " * 99_000, headers=headers).status_code == 400
