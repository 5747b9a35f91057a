"""A real S3 server (moto) on loopback, and a proxy before it that fails, slows down and cuts as it is told."""

from __future__ import annotations

import http.client
import logging
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tegakari.indexer.merge import Assembly
from tegakari.schemas.run import FORMAT, RunManifest, Scores
from tegakari.store.disk.layout import work_directory
from tegakari.store.disk.publish import publish
from tests.support.factories import _manifest, random_case

REASON = "moto and obstore are needed: pip install -c constraints.txt -e '.[test]'"


@contextmanager
def s3_server() -> Iterator[str]:
    """Moto on a free port of 127.0.0.1; its address."""
    server = pytest.importorskip("moto.server", reason=REASON)
    pytest.importorskip("obstore", reason=REASON)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        moto.stop()


def environment(endpoint: str) -> dict[str, str]:
    """Variables of a program that uses the server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }


def make_bucket(endpoint: str, name: str) -> None:
    httpx.put(f"{endpoint}/{name}", timeout=60).raise_for_status()


FILES = {
    "index.duckdb": 150_000,
    "activations/layer=00/part-0.parquet": 90_001,
    "hot/documents.arrow": 20_000,
    "hot/empty.npy": 0,
    "vectors.lance/_versions/1.manifest": 1,
}
"""Path -> bytes of the files of `make_plain_run`."""


def make_plain_run(store: Path, name: str, *, seed: int = 0) -> RunManifest:
    """Publish what a transfer sees of a run: few files of random content, one of them empty."""
    case = random_case(seed=seed, layers=1, d_sae=4, documents_per_label=1)
    manifest = _manifest(
        name, f"{seed:064x}", case, "head", Assembly(0, Scores(accuracy=1.0, macro_f1=1.0)), FORMAT, 10
    )
    staged = work_directory(store, name)
    generator = random.Random(seed)
    for path, size in FILES.items():
        (staged / path).parent.mkdir(parents=True, exist_ok=True)
        (staged / path).write_bytes(generator.randbytes(size))
    return publish(store, staged, manifest)


class Fault(NamedTuple):
    """What the proxy does with requests."""

    method: str = "GET"
    path: str = ""
    """regular expression that is searched for in path and query"""
    status: int | None = None
    """reply with this status, and do not ask the server"""
    code: str = "InternalError"
    times: int = 1_000_000
    """requests that fail; later ones pass"""
    cut_after: int | None = None
    """bytes of the body after which the connection is reset"""
    lose_reply: bool = False
    """ask the server, then reply with `status`"""
    bytes_per_second: int | None = None
    call: Callable[[], object] | None = None
    """called before the server is asked"""


class Request(NamedTuple):
    """A request that the proxy has passed on or refused."""

    method: str
    path: str
    range: str | None
    sent: int
    """bytes of the body that the client was sent"""
    headers: dict[str, str]
    """names in lower case"""


class Proxy:
    """A proxy on a port of an address of this machine."""

    def __init__(self, server: str, host: str = "127.0.0.1", port: int = 0) -> None:
        """Start it.

        Args:
            server: address of the server that it stands before.
            host: address to listen on.
            port: 0: a free one.
        """
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self._counts: dict[int, int] = {}
        self._lock = threading.Lock()
        target = server.removeprefix("http://")
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fault = proxy._fault(self.command, self.path)
                sent = 0
                try:
                    if fault is not None and fault.call is not None:
                        fault.call()
                    if fault is not None and fault.status is not None and not fault.lose_reply:
                        sent = self._refuse(fault)
                        return
                    connection = http.client.HTTPConnection(target)
                    headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
                    connection.request(self.command, self.path, body, headers)
                    reply = connection.getresponse()
                    content = reply.read()
                    connection.close()
                    if fault is not None and fault.lose_reply:
                        sent = self._refuse(fault)
                        return
                    sent = self._reply(reply, content, fault)
                except OSError:
                    self.close_connection = True
                finally:
                    with proxy._lock:
                        headers = {name.lower(): value for name, value in self.headers.items()}
                        proxy.requests.append(Request(self.command, self.path, headers.get("range"), sent, headers))

            def _refuse(self, fault: Fault) -> int:
                content = f"<Error><Code>{fault.code}</Code><Message>by the test</Message></Error>".encode()
                self.send_response(fault.status or 500)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)
                return 0

            def _reply(self, reply: http.client.HTTPResponse, content: bytes, fault: Fault | None) -> int:
                self.send_response(reply.status)
                for name, value in reply.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                        self.send_header(name, value)
                length = reply.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
                self.send_header("Content-Length", length or "0")
                self.end_headers()
                if fault is not None and fault.cut_after is not None:
                    self.wfile.write(content[: fault.cut_after])
                    self.wfile.flush()
                    with suppress(OSError):
                        self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return min(len(content), fault.cut_after)
                if fault is not None and fault.bytes_per_second is not None:
                    for start in range(0, len(content), step := max(1, fault.bytes_per_second // 20)):
                        self.wfile.write(content[start : start + step])
                        self.wfile.flush()
                        time.sleep(0.05)
                    return len(content)
                self.wfile.write(content)
                return len(content)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass  # noqa: N815

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server((host, port), Handler)
        self.address = f"http://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def _fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for number, fault in enumerate(self.faults):
                matches = fault.method == method and re.search(fault.path, path)
                if matches and self._counts.get(number, 0) < fault.times:
                    self._counts[number] = self._counts.get(number, 0) + 1
                    return fault
        return None

    def set_faults(self, *faults: Fault) -> None:
        """Replace the faults, and forget the requests so far."""
        with self._lock:
            self.faults, self._counts = list(faults), {}
            self.requests.clear()

    def received(self, path: str = "") -> int:
        """Bytes of the bodies of GET requests whose path contains a text."""
        return sum(request.sent for request in self.requests if request.method == "GET" and path in request.path)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
