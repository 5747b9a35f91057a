"""Load on an HTTP server: as much as it takes (wrk, where it is installed), or so many requests a second."""

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
    """Requests a second that a server answers when it always has CONNECTIONS to answer.

    Raises:
        RuntimeError: an answer was not 2xx.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        return uvloop.run(_as_fast_as_it_goes(base, paths, seconds))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % ", ".join(f'"{path}"' for path in paths))
        script.flush()
        command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}", "-s", script.name, base]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if not found:
        raise RuntimeError(said)
    return float(found[1])


class _Connection(asyncio.Protocol):
    """A connection that is kept; one request at a time, answers have a Content-Length."""

    def __init__(self) -> None:
        self._received = b""
        self._size = 0
        self._answer: asyncio.Future[int] | None = None
        self._transport: Any = None

    @classmethod
    async def to(cls, base: str) -> _Connection:
        where = urlsplit(base)
        _, connection = await asyncio.get_running_loop().create_connection(cls, where.hostname or "", where.port or 80)
        return connection

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, path: str) -> asyncio.Future[int]:
        """Send a request; its status is there when its body is."""
        self._received, self._size = b"", 0
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._size and (end := self._received.find(b"\r\n\r\n")) > 0:
            length = re.search(rb"(?i)content-length: (\d+)", self._received[:end])
            self._size = end + 4 + (int(length[1]) if length else 0)
        if self._size and len(self._received) >= self._size and self._answer is not None:
            self._answer.set_result(int(self._received[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("closed"))

    def close(self) -> None:
        self._transport.close()


async def _as_fast_as_it_goes(base: str, paths: Sequence[str], seconds: float) -> float:
    end, answered = time.perf_counter() + seconds, 0

    async def keep_asking(place: int) -> None:
        nonlocal answered
        connection = await _Connection.to(base)
        while time.perf_counter() < end:
            status = await connection.ask(paths[(answered + place) % len(paths)])
            if status != 200:
                raise RuntimeError(f"status {status}")
            answered += 1
        connection.close()

    start = time.perf_counter()
    await asyncio.gather(*(keep_asking(place) for place in range(CONNECTIONS)))
    return answered / (time.perf_counter() - start)


def latencies(base: str, paths: Sequence[str], rate: float, seconds: float) -> np.ndarray:
    """Seconds from when each request was due until its answer was there, at a steady rate; float64."""
    return uvloop.run(_at_a_rate(base, paths, rate, seconds))


async def _at_a_rate(base: str, paths: Sequence[str], rate: float, seconds: float) -> np.ndarray:
    idle: asyncio.Queue[_Connection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        idle.put_nowait(await _Connection.to(base))
    found: list[float] = []
    failed: list[int] = []

    def note(due: float, connection: _Connection, answer: asyncio.Future[int]) -> None:
        found.append(time.perf_counter() - due)
        if answer.result() != 200:
            failed.append(answer.result())
        idle.put_nowait(connection)

    start = time.perf_counter()
    for turn in range(round(rate * seconds)):
        due = start + turn / rate
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        connection = await idle.get()
        connection.ask(paths[turn % len(paths)]).add_done_callback(partial(note, due, connection))
    for _ in range(CONNECTIONS):
        (await idle.get()).close()
    if failed:
        raise RuntimeError(f"statuses {set(failed)}")
    return np.array(found[len(found) // 10 :])


def wait_until_answered(url: str, deadline: float = 60) -> float:
    """Seconds until an address answers 200.

    Raises:
        TimeoutError: it never did.
    """
    start = time.perf_counter()
    while time.perf_counter() - start < deadline:
        try:
            if asyncio.run(_ask_once(url)) == 200:
                return time.perf_counter() - start
        except OSError:
            pass
        time.sleep(0.01)
    raise TimeoutError(url)


async def _ask_once(url: str) -> int:
    connection = await _Connection.to(url)
    status = await connection.ask(Path(urlsplit(url).path).as_posix())
    connection.close()
    return status
