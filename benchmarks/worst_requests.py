"""Memory of the server, and how /healthz answers meanwhile, during the worst requests that it accepts or refuses.

    python -m benchmarks.worst_requests [--scale 0.1] [--only NAME ...] [--analyses 500]

One server per attack: a query of 5 KB whose answer has no end, readers that take a byte per second, trailers, chunk
extensions and bodies without end. /healthz is requested 50 times per second from a process of its own; memory is that
of the server's process, and of the server with its children, above their memory before the attack. The last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.api import tegakari_server
from benchmarks.store import study_store
from tegakari.schemas.analysis_kinds import AnalysisKind
from tegakari.store import Store
from tegakari.store.results import publish_analysis, stored_analyses

RUN = "study-0"
PROBES_PER_SECOND = 50
IDLE_PROBES = 100
SLOW_SECONDS = 20
"""Seconds for which slow readers read."""

console = Console(stderr=True, width=140)


class Meanwhile(NamedTuple):
    """What the server did during an attack."""

    healthz_ms: list[float]
    """of each request"""
    idle_ms: list[float]
    """the same before the attack, on a machine that others may use"""
    server: int
    """largest resident memory of the server's process above that before the attack, bytes"""
    family: int
    """the same with all its children"""


def _resident(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _resident_with_children(pid: int) -> int:
    """Resident bytes of a process and all its descendants; pages that they share count once."""
    size = 0
    pids = [pid]
    for process in pids:
        with suppress(OSError):
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
            size += int(rollup.partition("\nPss:")[2].split()[0]) * 1024
            for task in Path(f"/proc/{process}/task").glob("*/children"):
                pids += map(int, task.read_text().split())
    return size


def _watch(address: tuple[str, int], pid: int, started: Event, stopped: Event, sink: Connection) -> None:
    """Sample memory and /healthz until told to stop; runs in a process of its own."""
    before, before_family = _resident(pid), _resident_with_children(pid)
    server, family = 0, 0
    seconds: list[float] = []
    idle_seconds: list[float] = []
    connection = HTTPConnection(*address, timeout=120)
    while not stopped.is_set():
        start = time.perf_counter()
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise RuntimeError(f"/healthz: {response.status}")
        (seconds if started.is_set() else idle_seconds).append(time.perf_counter() - start)
        if len(idle_seconds) == IDLE_PROBES:
            started.set()
        server = max(server, _resident(pid) - before)
        if len(seconds) % 10 == 0:
            family = max(family, _resident_with_children(pid) - before_family)
        time.sleep(max(0.0, start + 1 / PROBES_PER_SECOND - time.perf_counter()))
    healthz, idle = ([second * 1000 for second in part] for part in (seconds, idle_seconds))
    sink.send(Meanwhile(healthz, idle, server, family))


def measured(attack: Callable[[str], str], base: str, pid: int) -> tuple[str, float, Meanwhile]:
    """Run an attack: its outcome in words, its seconds, and what the server did meanwhile."""
    context = multiprocessing.get_context("spawn")
    started, stopped = context.Event(), context.Event()
    source, sink = context.Pipe(duplex=False)
    parts = urlsplit(base)
    watcher = context.Process(target=_watch, args=((parts.hostname, parts.port), pid, started, stopped, sink))
    watcher.start()
    started.wait()
    start = time.perf_counter()
    try:
        outcome = attack(base)
    except OSError as error:
        outcome = type(error).__name__
    seconds = time.perf_counter() - start
    time.sleep(0.5)
    stopped.set()
    while not source.poll(1):
        if not watcher.is_alive():
            raise RuntimeError("the watcher died")
    meanwhile = source.recv()
    watcher.join()
    return outcome, seconds, meanwhile


def post_sql(base: str, sql: str, *, format_: str = "json", **options: object) -> str:
    """Send a query and read its whole response: its status and its size."""
    body = json.dumps({"sql": sql, "limit": 100_000, "seconds": 10, **options}).encode()
    request = urllib.request.Request(
        f"{base}/v1/sql?format={format_}", data=body, headers={"Content-Type": "application/json"}
    )
    size = 0
    try:
        with urllib.request.urlopen(request, timeout=300) as response:
            while part := response.read(2**20):
                size += len(part)
            return f"{response.status}, {size / 1e6:.1f} MB"
    except urllib.error.HTTPError as error:
        return f"{error.code}: {json.loads(error.read())['detail'][:60]}"


def _connect(base: str) -> socket.socket:
    parts = urlsplit(base)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect((parts.hostname, parts.port))
    return connection


def read_slowly(base: str, request: bytes, *, connections: int) -> str:
    """Read a byte per second on many connections, until they are closed or SLOW_SECONDS have passed."""
    with ExitStack() as stack:
        readers = [stack.enter_context(_connect(base)) for _ in range(connections)]
        for reader in readers:
            reader.sendall(request)
            reader.setblocking(False)
        closed: set[socket.socket] = set()
        for _ in range(SLOW_SECONDS):
            time.sleep(1)
            for reader in readers:
                if reader not in closed:
                    try:
                        if not reader.recv(1):
                            closed.add(reader)
                    except BlockingIOError:
                        pass
                    except ConnectionError:
                        closed.add(reader)
        # Whatever the kernel has kept for a reader can still be read after the server closed the connection.
        states = [_is_open(reader) for reader in readers if reader not in closed]
        return f"{sum(states)} of {connections} still open"


def _is_open(connection: socket.socket) -> bool:
    """Whether the other side has not closed a connection, as the kernel's state of it says."""
    state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state == 1  # TCP_ESTABLISHED


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def _post_sql_bytes(sql: str) -> bytes:
    body = json.dumps({"sql": sql, "limit": 100_000, "seconds": 5}).encode()
    head = "POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


CHUNKED = (
    b"POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def send_endlessly(base: str, first: bytes, piece: bytes, *, megabytes: int, seconds: float = 20) -> str:
    """Send a request whose end never comes; how much of it the server took, and the status of its response."""
    sent = 0
    start = time.perf_counter()
    with _connect(base) as connection:
        try:
            connection.sendall(first)
            while sent < megabytes * 1e6 and time.perf_counter() - start < seconds:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        status = b"no response"
        with suppress(OSError):
            connection.settimeout(1)
            status = connection.recv(4096)[9:12] or b"closed"
        return f"{status.decode()} after {sent / 1e6:.1f} MB"


def in_parallel(attack: Callable[[str], str], base: str, *, times: int) -> str:
    with ThreadPoolExecutor(times) as threads:
        return next(iter(threads.map(attack, [base] * times)))


def _fetch(base: str, path: str, *, coding: str = "identity", times: int = 10) -> str:
    size = 0
    for _ in range(times):
        request = urllib.request.Request(f"{base}{path}", headers={"Accept-Encoding": coding})
        with urllib.request.urlopen(request, timeout=60) as response:
            size = len(response.read())
    return f"{size / 1e6:.2f} MB each"


def _columns(value: str, count: int) -> str:
    return ",".join([value] * count)


NULLS = f"SELECT {_columns('NULL', 1000)} FROM range(100000)"
BOOLEANS = f"SELECT {_columns('true', 1000)} FROM range(100000)"
LONG_NAME = f'SELECT 1 AS "{"n" * 5000}" FROM range(100000)'
PAGE = f"/v1/runs/{RUN}/features?limit=1000"
PARAMETERS = b'{"sql":"SELECT 1","parameters":{'

ATTACKS: dict[str, Callable[[str], str]] = {
    "NULL x 1,000 columns, JSON": partial(post_sql, sql=NULLS),
    "booleans x 1,000 columns, JSON": partial(post_sql, sql=BOOLEANS),
    "NULL x 1,000 columns, CSV": partial(post_sql, sql=NULLS, format_="csv"),
    "NULL x 1,000 columns, Arrow": partial(post_sql, sql=NULLS, format_="arrow"),
    "NULL x 1,000 columns, Parquet": partial(post_sql, sql=NULLS, format_="parquet"),
    "a column name of 5 KB, JSON": partial(post_sql, sql=LONG_NAME),
    "one text of 30 MB, escaped": partial(post_sql, sql="SELECT repeat(chr(1), 30000000)"),
    "4 answers of 30 MB at once": partial(
        in_parallel, partial(post_sql, sql="SELECT range, 'x' || range FROM range(1000000)"), times=4
    ),
    "a query without end": partial(post_sql, sql="SELECT count(*) FROM range(1000000000000)", seconds=5),
    "200 slow readers of a page": partial(read_slowly, request=_get(PAGE), connections=200),
    "800 slow readers of a page": partial(read_slowly, request=_get(PAGE), connections=800),
    "8 slow readers of SQL": partial(
        read_slowly, request=_post_sql_bytes("SELECT repeat('x', 300) FROM range(90000)"), connections=8
    ),
    "trailers": partial(
        send_endlessly,
        first=CHUNKED + b"1\r\n{\r\n0\r\n",
        piece=b"".join(b"x-%d: %s\r\n" % (n, b"v" * 80) for n in range(500)),
        megabytes=300,
    ),
    "one trailer": partial(send_endlessly, first=CHUNKED + b"1\r\n{\r\n0\r\nx: ", piece=b"v" * 65536, megabytes=100),
    "chunk extensions": partial(
        send_endlessly, first=CHUNKED, piece=b"1;" + b"x" * 8000 + b"=1\r\n \r\n", megabytes=300
    ),
    "one chunk extension": partial(send_endlessly, first=CHUNKED + b"1;x=", piece=b"v" * 65536, megabytes=300),
    "chunks of one byte": partial(send_endlessly, first=CHUNKED, piece=b"1\r\n \r\n" * 10_000, megabytes=60),
    "headers behind a request": partial(
        send_endlessly,
        first=_post_sql_bytes("SELECT count(*) FROM range(1000000000000)") + b"GET / HTTP/1.1\r\n",
        piece=b"".join(b"x-%d: %s\r\n" % (n, b"v" * 80) for n in range(500)),
        megabytes=300,
    ),
    "a body of 9.9 MB of parameters": partial(
        send_endlessly,
        first=b"POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 9900000\r\n\r\n" + PARAMETERS,
        piece=b"".join(b'"%07d":1,' % n for n in range(890_000))[: 9_900_000 - len(PARAMETERS) - 9] + b'"x":1}}  ',
        megabytes=9,
    ),
    "16 x 10 pages, Brotli": partial(in_parallel, partial(_fetch, path=PAGE, coding="br"), times=16),
    "16 x 10 pages, Parquet": partial(in_parallel, partial(_fetch, path=f"{PAGE}&format=parquet"), times=16),
    "16 x 10 pages, CSV": partial(in_parallel, partial(_fetch, path=f"{PAGE}&format=csv"), times=16),
}


class Settings(msgspec.Struct, frozen=True):
    """Settings of the analyses that fill the store."""

    label: str


class Result(msgspec.Struct, frozen=True):
    """Their result."""

    draws: list[int]


def store_analyses(store: Path, number: int) -> None:
    """Store so many analyses of the run, of 20 KB each, unless the store has them."""
    if sum(1 for _ in stored_analyses(store)) >= number:
        return
    kind = AnalysisKind("knockout", Settings, Result)
    manifest = Store(store).run(RUN).manifest
    for label in range(number):
        result = Result(list(range(4000)))
        publish_analysis(store, kind, [manifest], Settings(str(label)), result, {}, seconds=1.0, versions={})


def select_1(base: str, requests: int = 30) -> Iterator[float]:
    """Seconds of `SELECT 1`, one after the other."""
    for _ in range(requests):
        start = time.perf_counter()
        post_sql(base, "SELECT 1")
        yield time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the worst requests.")
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument(
        "--store", type=Path, help="a store with a run study-0; default: one of a part of the study's size"
    )
    parser.add_argument("--only", nargs="*", default=[], help="attacks whose name contains one of these")
    parser.add_argument("--analyses", type=int, default=500)
    options = parser.parse_args()
    store = options.store or study_store(options.scale)
    store_analyses(store, options.analyses)
    figures: dict[str, dict[str, object]] = {}
    table = Table("attack", "outcome", "s", "server, MB", "with children, MB", "/healthz p50, p99, max, ms (idle p99)")
    for name, attack in ATTACKS.items():
        if options.only and not any(part in name for part in options.only):
            continue
        with tegakari_server(store, 1) as (base, pid, _):
            _fetch(base, PAGE)
            post_sql(base, "SELECT 1")
            time.sleep(1)  # until the next SQL process has started
            outcome, seconds, meanwhile = measured(attack, base, pid)
        p50, p99, worst = np.percentile(meanwhile.healthz_ms, [50, 99, 100])
        idle_p99 = float(np.percentile(meanwhile.idle_ms, 99))
        figures[name] = {
            "outcome": outcome,
            "seconds": round(seconds, 2),
            "server_mb": round(meanwhile.server / 1e6, 1),
            "family_mb": round(meanwhile.family / 1e6, 1),
            "healthz_p50_ms": round(p50, 1),
            "healthz_p99_ms": round(p99, 1),
            "idle_p99_ms": round(idle_p99, 1),
        }
        row = [name, outcome, f"{seconds:.1f}", f"{meanwhile.server / 1e6:.0f}", f"{meanwhile.family / 1e6:.0f}"]
        table.add_row(*row, f"{p50:.1f}, {p99:.1f}, {worst:.1f} ({idle_p99:.1f})")
        console.print(*row, f"{p50:.1f}, {p99:.1f}, {worst:.1f} ({idle_p99:.1f})", sep=" | ", soft_wrap=True)
    if not options.only or "SELECT 1" in options.only:
        with tegakari_server(store, 1) as (base, _, _):
            post_sql(base, "SELECT 1")
            seconds = sorted(select_1(base))
            figures["SELECT 1"] = {"p50_s": round(float(np.median(seconds)), 3), "max_s": round(seconds[-1], 3)}
    console.print(table)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
