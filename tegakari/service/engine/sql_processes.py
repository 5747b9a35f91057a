"""SQL queries in processes of their own: one query per process, the next process started ahead."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

import tegakari
from tegakari.schemas.errors import BusyError, DeadlineError, SqlError
from tegakari.store.processes import absolute_entries
from tegakari.store.sql.sandbox import SandboxReply, SandboxRequest

log = structlog.get_logger()

GRACE_SECONDS = 2.0
"""Seconds from the end of a query's time, when it is interrupted, until its process is killed."""

HEADER_BYTES = 2**16
OVERHEAD_BYTES = 2**20
"""of an Arrow stream, in addition to its rows"""

_INHERITED = ("LANG", "VIRTUAL_ENV")
"""Environment variables that a process gets; others can hold keys and tokens."""

_INHERITED_PATHS = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
"""Search paths that a process gets, without relative directories."""

_LIMITED_THREADS = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""One thread per core would reserve more address space than the process may have on a machine of many cores."""


_PROGRAM = """
import sys
if sys.argv[1] not in sys.path:  # the package is not installed, or another copy of it is
    sys.path.insert(0, sys.argv[1])
from tegakari.store.sql.sandbox import main
main()
"""
"""What a process runs; its argument is the directory of this package."""


class SqlProcesses:
    """Runs the SQL queries of one worker of the service."""

    def __init__(self, *, max_running: int = 4) -> None:
        """The first process is started with the first query.

        Args:
            max_running: queries that run at the same time; further ones are refused.
        """
        self._max_running = max_running
        self._running = 0
        self._spare: asyncio.Task[asyncio.subprocess.Process] | None = None

    async def run(self, request: SandboxRequest) -> tuple[SandboxReply, bytes]:
        """Run a query in a process of its own. Cancelling the call kills the process.

        Returns:
            the reply and an Arrow stream.

        Raises:
            BusyError: the maximum number of queries is running.
            DeadlineError: no result in time.
            SqlError: the query is wrong, refused, or needs too much memory.
        """
        if self._running >= self._max_running:
            raise BusyError(f"{self._max_running} SQL queries are running", fix="retry later")
        self._running += 1
        process = None
        try:
            process = await self._take_process()
            async with asyncio.timeout(request.seconds + GRACE_SECONDS):
                return await _run_query(process, request)
        except TimeoutError:
            raise _deadline_error(request) from None
        finally:
            self._running -= 1
            if process is not None:
                await _kill_and_wait(process)

    async def _take_process(self) -> asyncio.subprocess.Process:
        """The spare process, or a new one; the next spare process is started."""
        starting, self._spare = self._spare or asyncio.create_task(_start()), asyncio.create_task(_start())
        try:
            process = await asyncio.shield(starting)
            return process if process.returncode is None else await _start()
        except asyncio.CancelledError:
            starting.add_done_callback(_kill)
            raise

    async def close(self) -> None:
        """Kill the spare process."""
        spare, self._spare = self._spare, None
        if spare is None:
            return
        if spare.get_loop() is asyncio.get_running_loop():
            await _kill_and_wait(await spare)
        elif spare.done():  # an application driven from several loops: one loop cannot await the process of another
            _kill(spare)


def _kill(started: asyncio.Task[asyncio.subprocess.Process]) -> None:
    if not started.cancelled() and started.exception() is None:
        with suppress(ProcessLookupError):
            started.result().kill()


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # nothing is imported from the working directory
        "-c",
        _PROGRAM,
        str(Path(tegakari.__file__).parents[1]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=_environment(),
        cwd="/",
        limit=HEADER_BYTES,
    )


def _environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    paths = {name: absolute_entries(os.environ[name]) for name in _INHERITED_PATHS if name in os.environ}
    # An empty LD_LIBRARY_PATH or PYTHONPATH is left out: the former means the working directory.
    return {**inherited, **{name: path for name, path in paths.items() if path}, **_LIMITED_THREADS}


async def _run_query(process: asyncio.subprocess.Process, request: SandboxRequest) -> tuple[SandboxReply, bytes]:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(ConnectionError):  # it has ended: the missing reply says so
        process.stdin.write(msgspec.json.encode(request) + b"\n")
        await process.stdin.drain()
    try:
        reply = msgspec.json.decode(await process.stdout.readline(), type=SandboxReply)
    except (ValueError, msgspec.DecodeError):
        log.warning("SQL process died", status=await process.wait())
        raise SqlError(
            "the query's process died: most likely the query needs more memory than it may have",
            field="sql",
            fix="select fewer rows or columns, or aggregate less at a time",
        ) from None
    if reply.timed_out:
        raise _deadline_error(request)
    if reply.error is not None:
        raise SqlError(reply.error, field="sql", fix=reply.fix)
    body = bytearray()
    while part := await process.stdout.read(2**20):
        body += part
        if len(body) > request.bytes + OVERHEAD_BYTES:
            raise SqlError("the result is too large", field="limit", fix="select fewer rows or columns")
    return reply, bytes(body)


def _deadline_error(request: SandboxRequest) -> DeadlineError:
    return DeadlineError(
        f"no result within {request.seconds:g} s", field="seconds", fix="simplify the query, or raise `seconds`"
    )


async def _kill_and_wait(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await asyncio.shield(process.wait())
