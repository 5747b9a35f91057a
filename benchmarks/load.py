"""Load on an HTTP server: maximum load (by wrk, if installed), or a number of requests per second."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import uvloop

CONNECTIONS = 16

_SCRIPT = """
local paths = {%s}
local turn = 0
request = function()
  turn = turn %% #paths + 1
  return wrk.format("GET", paths[turn])
end
"""


def requests_per_second(base: str, paths: Sequence[str], seconds: float) -> float:
    """Requests per second of a server that always has CONNECTIONS requests in progress.

    Raises:
        RuntimeError: a response was not 2xx.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        return uvloop.run(_maximum_rate(base, paths, seconds))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % ", ".join(f'"{path}"' for path in paths))
        script.flush()
        command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}", "-s", script.name, base]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if not rate:
        raise RuntimeError(output)
    return float(rate[1])


class _Connection(asyncio.Protocol):
    """A persistent connection with one request at a time; responses have a Content-Length."""

    def __init__(self) -> None:
        self._received = b""
        self._size = 0
        self._status: asyncio.Future[int] | None = None
        self._transport: Any = None

    @classmethod
    async def to(cls, base: str) -> _Connection:
        url = urlsplit(base)
        _, connection = await asyncio.get_running_loop().create_connection(cls, url.hostname or "", url.port or 80)
        return connection

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def request(self, path: str) -> asyncio.Future[int]:
        """Send a request; the future holds its status once the body has arrived."""
        self._received, self._size = b"", 0
        self._status = asyncio.get_running_loop().create_future()
        self._transport.write(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())
        return self._status

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._size and (end := self._received.find(b"\r\n\r\n")) > 0:
            length = re.search(rb"(?i)content-length: (\d+)", self._received[:end])
            self._size = end + 4 + (int(length[1]) if length else 0)
        if self._size and len(self._received) >= self._size and self._status is not None:
            self._status.set_result(int(self._received[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._status is not None and not self._status.done():
            self._status.set_exception(exc or ConnectionError("closed"))

    def close(self) -> None:
        self._transport.close()


async def _maximum_rate(base: str, paths: Sequence[str], seconds: float) -> float:
    end, responses = time.perf_counter() + seconds, 0

    async def send_requests(first: int) -> None:
        nonlocal responses
        connection = await _Connection.to(base)
        while time.perf_counter() < end:
            status = await connection.request(paths[(responses + first) % len(paths)])
            if status != 200:
                raise RuntimeError(f"status {status}")
            responses += 1
        connection.close()

    start = time.perf_counter()
    await asyncio.gather(*(send_requests(first) for first in range(CONNECTIONS)))
    return responses / (time.perf_counter() - start)


def latencies(base: str, paths: Sequence[str], rate: float, seconds: float) -> np.ndarray:
    """Seconds from the due time of each request to its response, at a constant rate; float64 [requests]."""
    return uvloop.run(_at_a_rate(base, paths, rate, seconds))


async def _at_a_rate(base: str, paths: Sequence[str], rate: float, seconds: float) -> np.ndarray:
    idle: asyncio.Queue[_Connection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        idle.put_nowait(await _Connection.to(base))
    seconds_of_requests: list[float] = []
    failed: list[int] = []

    def record(due: float, connection: _Connection, status: asyncio.Future[int]) -> None:
        seconds_of_requests.append(time.perf_counter() - due)
        if status.result() != 200:
            failed.append(status.result())
        idle.put_nowait(connection)

    start = time.perf_counter()
    for turn in range(round(rate * seconds)):
        due = start + turn / rate
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        connection = await idle.get()
        connection.request(paths[turn % len(paths)]).add_done_callback(partial(record, due, connection))
    for _ in range(CONNECTIONS):
        (await idle.get()).close()
    if failed:
        raise RuntimeError(f"statuses {set(failed)}")
    return np.array(seconds_of_requests[len(seconds_of_requests) // 10 :])


def wait_until_answered(url: str, deadline: float = 60) -> float:
    """Seconds until an address responds with 200.

    Raises:
        TimeoutError: no such response before the deadline.
    """
    start = time.perf_counter()
    while time.perf_counter() - start < deadline:
        try:
            if asyncio.run(_status_of(url)) == 200:
                return time.perf_counter() - start
        except OSError:
            pass
        time.sleep(0.01)
    raise TimeoutError(url)


async def _status_of(url: str) -> int:
    connection = await _Connection.to(url)
    status = await connection.request(Path(urlsplit(url).path).as_posix())
    connection.close()
    return status
