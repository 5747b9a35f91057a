"""Processes that answer one SQL query each, started ahead, killed when they take too long."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress

import msgspec
import structlog

from tegakari.schemas.errors import BusyError, DeadlineError, SqlError
from tegakari.store.sql.sandbox import SandboxReply, SandboxRequest

log = structlog.get_logger()

GRACE_SECONDS = 2.0
"""After its time a query is interrupted; so much later its process is killed."""

HEADER_BYTES = 2**16
OVERHEAD_BYTES = 2**20
"""of an Arrow stream, beside its rows"""

_INHERITED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "VIRTUAL_ENV")
"""Of the environment; keys and tokens that lie there are nobody's business in a query."""

_FRUGAL = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""A thread a core reserves address space that the process may not have on a machine of many cores."""


class Sandboxes:
    """The SQL queries of one process of the service."""

    def __init__(self, *, at_once: int = 4) -> None:
        """No process is started before the first query.

        Args:
            at_once: queries that run at the same time; more are refused.
        """
        self._most = at_once
        self._running = 0
        self._spare: asyncio.Task[asyncio.subprocess.Process] | None = None

    async def answer(self, request: SandboxRequest) -> tuple[SandboxReply, bytes]:
        """Run a query in a process of its own. Cancelling the call kills the process.

        Returns:
            the reply and an Arrow stream.

        Raises:
            BusyError: so many queries run already.
            DeadlineError: no answer in time.
            SqlError: the query is wrong, refused, or needs too much memory.
        """
        if self._running >= self._most:
            raise BusyError(f"{self._most} queries run already", fix="ask again later")
        self._running += 1
        process = None
        try:
            process = await self._process()
            async with asyncio.timeout(request.seconds + GRACE_SECONDS):
                return await _ask(process, request)
        except TimeoutError:
            raise _late(request) from None
        finally:
            self._running -= 1
            if process is not None:
                await _end(process)

    async def _process(self) -> asyncio.subprocess.Process:
        """The process that was held ready, if there is one; another is started for the next query."""
        starting, self._spare = self._spare or asyncio.create_task(_start()), asyncio.create_task(_start())
        try:
            process = await asyncio.shield(starting)
            return process if process.returncode is None else await _start()
        except asyncio.CancelledError:
            starting.add_done_callback(_kill)
            raise

    async def close(self) -> None:
        """End the process that was held ready."""
        spare, self._spare = self._spare, None
        if spare is None:
            return
        if spare.get_loop() is asyncio.get_running_loop():
            await _end(await spare)
        elif spare.done():  # whoever drives the application from several loops cannot wait in one for another's process
            _kill(spare)


def _kill(started: asyncio.Task[asyncio.subprocess.Process]) -> None:
    if not started.cancelled() and started.exception() is None:
        with suppress(ProcessLookupError):
            started.result().kill()


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tegakari.store.sql.sandbox",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in _INHERITED if name in os.environ} | _FRUGAL,
        limit=HEADER_BYTES,
    )


async def _ask(process: asyncio.subprocess.Process, request: SandboxRequest) -> tuple[SandboxReply, bytes]:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(ConnectionError):  # it has ended: its answer says so
        process.stdin.write(msgspec.json.encode(request) + b"\n")
        await process.stdin.drain()
    try:
        reply = msgspec.json.decode(await process.stdout.readline(), type=SandboxReply)
    except (ValueError, msgspec.DecodeError):
        log.warning("a query ended its process", status=await process.wait())
        raise SqlError(
            "the query ended its process: most likely it needs more memory than it may have",
            field="sql",
            fix="ask for less at a time",
        ) from None
    if reply.timed_out:
        raise _late(request)
    if reply.error is not None:
        raise SqlError(reply.error, field="sql", fix=reply.fix)
    body = bytearray()
    while part := await process.stdout.read(2**20):
        body += part
        if len(body) > request.bytes + OVERHEAD_BYTES:
            raise SqlError("the answer is too large", field="limit", fix="ask for fewer rows or columns")
    return reply, bytes(body)


def _late(request: SandboxRequest) -> DeadlineError:
    return DeadlineError(
        f"no answer within {request.seconds:g} s", field="seconds", fix="ask for less, or give it more time"
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await asyncio.shield(process.wait())
