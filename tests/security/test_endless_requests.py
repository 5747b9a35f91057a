"""Requests without end, and readers that take a byte per second: closed, in bounded memory."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.factories import make_run
from tests.support.raw_http import exchange, message
from tests.support.service import RUN
from tests.support.serving import serving

MEGABYTE = 2**20


class Server(NamedTuple):
    """A server, and its process."""

    host: str
    port: int
    pid: int

    def resident(self) -> int:
        """Resident bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * 4096

    def health(self) -> float:
        """Seconds of a request of /healthz."""
        start = time.perf_counter()
        assert httpx.get(f"http://{self.host}:{self.port}/healthz", timeout=30).status_code == 200
        return time.perf_counter() - start


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    store = tmp_path_factory.mktemp("store")
    make_run(store, RUN, d_sae=400)
    with serving("--store", store, "--log", "off") as (url, process):
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        httpx.post(f"{url}/v1/sql", json={"sql": "SELECT 1"}, timeout=60)
        httpx.get(f"{url}/v1/runs/{RUN}/features?limit=1000", timeout=60)
        yield Server(parts.hostname, parts.port, process.pid)


HEAD = {"Host": "localhost", "Content-Type": "application/json"}
CHUNKED = (
    b"POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)
ENDLESS_QUERY = message(
    "POST",
    "/v1/sql",
    headers=HEAD,
    body=json.dumps({"sql": "SELECT count(*) FROM range(1000000000000)", "seconds": 20}).encode(),
    close=False,
)
FIELDS = b"".join(b"x-%d: %s\r\n" % (number, b"v" * 80) for number in range(1000))

ENDLESS = {
    "trailers": (CHUNKED + b"1\r\n{\r\n0\r\n", FIELDS),
    "one trailer": (CHUNKED + b"1\r\n{\r\n0\r\nx: ", b"v" * 65536),
    "the name of a trailer": (CHUNKED + b"1\r\n{\r\n0\r\nx", b"v" * 65536),
    "extensions of chunks": (CHUNKED, b"1;" + b"x" * 8000 + b"=1\r\n \r\n"),
    "one extension": (CHUNKED + b"1;x=", b"v" * 65536),
    "chunks of one byte": (CHUNKED, b"1\r\n \r\n" * 10_000),
    "zeros before the size of a chunk": (CHUNKED, b"0" * 65536),
    "headers": (b"GET /v1/runs HTTP/1.1\r\n", FIELDS),
    "one header": (b"GET /v1/runs HTTP/1.1\r\nx: ", b"v" * 65536),
    "a target": (b"GET /", b"v" * 65536),
    "a method": (b"GET", b"T" * 65536),
    "line ends before a request": (b"", b"\r\n" * 30_000),
    "headers behind a request": (ENDLESS_QUERY + b"GET / HTTP/1.1\r\n", FIELDS),
    "a header behind a request": (ENDLESS_QUERY + b"GET / HTTP/1.1\r\nx: ", b"v" * 65536),
    "a target behind a request": (ENDLESS_QUERY + b"GET /", b"v" * 65536),
    "trailers of a GET": (CHUNKED.replace(b"POST /v1/sql", b"GET /v1/runs") + b"0\r\n", FIELDS),
    "a body behind its response": (
        CHUNKED.replace(b"POST /v1/sql", b"GET /v1/runs"),
        b"10000\r\n" + b" " * 65536 + b"\r\n",
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_request_without_end_is_refused(server: Server, name: str):
    first, piece = ENDLESS[name]
    before = server.resident()
    sent = 0
    with socket.create_connection((server.host, server.port), timeout=15) as connection:
        with suppress(OSError):  # closed
            connection.sendall(first)
            while sent < 60 * MEGABYTE:
                connection.sendall(piece)
                sent += len(piece)
        assert sent < 20 * MEGABYTE, "the server reads on"  # what the kernel holds for both included
        assert server.resident() - before < 20 * MEGABYTE
        assert server.health() < 5
        with suppress(OSError):
            assert connection.recv(12)[9:12] in (b"", b"400", b"404", b"200")


def test_trailers_are_not_headers(server: Server):
    """A key in a trailer, or another name of the server, would have passed the gate unseen."""
    body = json.dumps({"sql": "SELECT 1 AS one"}).encode()
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    sent = head + b"%x\r\n%s\r\n0\r\nAccept: text/csv\r\nHost: evil.example\r\n\r\n" % (len(body), body)
    response = exchange(server.host, server.port, sent)
    assert response.startswith(b"HTTP/1.1 200")
    assert b'"items":[{"one":1}]' in response


def test_requests_in_small_chunks_and_pipelines_are_served(server: Server):
    """What the limits must not refuse: chunks of ten bytes, 2,000 requests at once, headers of 60 KB."""
    body = json.dumps({"sql": "SELECT 1 AS one" + " " * 90_000}).encode()
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(body[start : start + 10]), body[start : start + 10]) for start in range(0, len(body), 10)
    )
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert exchange(server.host, server.port, head + chunks + b"0\r\n\r\n").startswith(b"HTTP/1.1 200")
    one = message("GET", "/healthz", headers=HEAD, close=False)
    last = message("GET", "/healthz", headers=HEAD)
    responses = exchange(server.host, server.port, one * 1999 + last)
    assert responses.count(b"HTTP/1.1 200") == 2000
    long = message("GET", "/healthz", headers={**HEAD, "X": "v" * 60_000})
    assert exchange(server.host, server.port, long).startswith(b"HTTP/1.1 200")


def slow_reader(server: Server, request: bytes) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(15)
    connection.connect((server.host, server.port))
    connection.sendall(request)
    connection.setblocking(False)
    return connection


def is_established(connection: socket.socket) -> bool:
    """Whether the other side has not closed the connection, as the kernel knows."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 1


def wait_until_closed(readers: list[socket.socket], *, seconds: float) -> None:
    """Read a byte per second from each until the server has closed all connections."""
    end = time.monotonic() + seconds
    while any(map(is_established, readers)):
        assert time.monotonic() < end, f"{sum(map(is_established, readers))} of {len(readers)} are open"
        for reader in filter(is_established, readers):
            with suppress(OSError):
                reader.recv(1)
        time.sleep(1)


LARGE = f"/v1/runs/{RUN}/features?limit=1000"
SQL = message(
    "POST",
    "/v1/sql",
    headers=HEAD,
    body=json.dumps({"sql": "SELECT repeat('x', 300) FROM range(90000)", "limit": 100_000}).encode(),
    close=False,
)


def test_readers_of_a_byte_per_second_are_disconnected(server: Server):
    requests = message("GET", LARGE, headers=HEAD, close=False) * 8, message("GET", LARGE, headers=HEAD), SQL
    with ExitStack() as stack:
        before = server.resident()
        readers = [stack.enter_context(slow_reader(server, request)) for request in requests for _ in range(3)]
        time.sleep(2)
        assert server.resident() - before < 20 * MEGABYTE
        wait_until_closed(readers, seconds=45)
    assert httpx.post(f"http://{server.host}:{server.port}/v1/sql", json={"sql": "SELECT 1"}).status_code == 200


def test_many_slow_readers_hold_little_memory(server: Server):
    """Of the largest response that needs no key."""
    path = "/schema/static/rapidoc-min.js"
    size = len(httpx.get(f"http://{server.host}:{server.port}{path}").content)
    readers = 300
    assert readers * size > 200 * MEGABYTE
    with ExitStack() as stack:
        before = server.resident()
        request = message("GET", path, headers=HEAD, close=False)
        slow = [stack.enter_context(slow_reader(server, request)) for _ in range(readers)]
        time.sleep(3)
        assert server.resident() - before < 100 * MEGABYTE
        assert server.health() < 5
        wait_until_closed(slow, seconds=60)
