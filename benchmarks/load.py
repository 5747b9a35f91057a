"""Load on an HTTP server: as much as it takes (wrk, where it is installed), or so many requests a second."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

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
        return asyncio.run(_as_fast_as_it_goes(base, paths, seconds))
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


class _Connection:
    """A connection that is kept; answers have a Content-Length."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, base: str) -> _Connection:
        where = urlsplit(base)
        return cls(*await asyncio.open_connection(where.hostname, where.port))

    async def get(self, path: str) -> int:
        """The status of one request, its body read."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if length:
            await self._reader.readexactly(int(length[1]))
        return int(head[9:12])

    def close(self) -> None:
        self._writer.close()


async def _as_fast_as_it_goes(base: str, paths: Sequence[str], seconds: float) -> float:
    end, answered = time.perf_counter() + seconds, 0

    async def keep_asking(place: int) -> None:
        nonlocal answered
        connection = await _Connection.to(base)
        while time.perf_counter() < end:
            status = await connection.get(paths[(answered + place) % len(paths)])
            if status != 200:
                raise RuntimeError(f"status {status}")
            answered += 1
        connection.close()

    start = time.perf_counter()
    await asyncio.gather(*(keep_asking(place) for place in range(CONNECTIONS)))
    return answered / (time.perf_counter() - start)


def latencies(base: str, paths: Sequence[str], rate: float, seconds: float) -> np.ndarray:
    """Seconds from when each request was due until its answer was there, at a steady rate; float64."""
    return asyncio.run(_at_a_rate(base, paths, rate, seconds))


async def _at_a_rate(base: str, paths: Sequence[str], rate: float, seconds: float) -> np.ndarray:
    idle: asyncio.Queue[_Connection] = asyncio.Queue()
    for _ in range(4 * CONNECTIONS):
        idle.put_nowait(await _Connection.to(base))
    found: list[float] = []

    async def ask(due: float, path: str) -> None:
        connection = await idle.get()
        if await connection.get(path) != 200:
            raise RuntimeError(path)
        found.append(time.perf_counter() - due)
        idle.put_nowait(connection)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for turn in range(round(rate * seconds)):
            due = start + turn / rate
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            group.create_task(ask(due, paths[turn % len(paths)]))
    while not idle.empty():
        idle.get_nowait().close()
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
    status = await connection.get(Path(urlsplit(url).path).as_posix())
    connection.close()
    return status
