"""SQL queries in processes of their own, each a fork of one process that has imported everything."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

import tegakari
from tegakari.schemas.errors import BusyError, DeadlineError, SqlError
from tegakari.store.processes import absolute_entries
from tegakari.store.sql.sandbox import SandboxReply, SandboxRequest

log = structlog.get_logger()

GRACE_SECONDS = 0.8
"""Seconds from the end of a query's time, when it is interrupted, until its process is killed."""

SEND_SECONDS = 60.0
"""Time of a client to receive a body; its process is one of the maximum until then."""

PART_BYTES = 2**16
"""Size of the parts in which a body is passed on."""

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
from tegakari.store.sql.fork_server import main
main()
"""
"""What the fork server runs; its arguments are the directory of this package and the id of this process."""


class SqlProcess:
    """The process of one query, connected to it by a socket."""

    def __init__(self, descriptor: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take over a process.

        Args:
            descriptor: pidfd of the process.
            reader: of what it sends.
            writer: of what it receives.
        """
        self._descriptor = descriptor
        self._reader = reader
        self._writer = writer

    async def run(self, request: SandboxRequest) -> SandboxReply:
        """Send the query, and wait for the reply.

        Raises:
            DeadlineError, SqlError: as `SqlProcesses.run`.
        """
        self._writer.write(msgspec.json.encode(request) + b"\n")
        end = time.monotonic() + request.seconds
        try:
            async with asyncio.timeout(request.seconds + GRACE_SECONDS):
                reply = msgspec.json.decode(await self._reader.readline(), type=SandboxReply)
        except TimeoutError:
            raise _deadline_error(request) from None
        except (OSError, ValueError, msgspec.DecodeError):
            if time.monotonic() > end:  # the kernel has ended it
                raise _deadline_error(request) from None
            log.warning("SQL process died")
            raise SqlError(
                "the query's process died: most likely the query needs more memory than it may have",
                field="sql",
                fix="select fewer rows or columns, or aggregate less at a time",
            ) from None
        if reply.timed_out:
            raise _deadline_error(request)
        if reply.error is not None:
            raise SqlError(reply.error, field=reply.field, fix=reply.fix)
        return reply

    async def read(self) -> bytes:
        """The next part of the body.

        Raises:
            EOFError: the process died.
        """
        part = await self._reader.read(PART_BYTES)
        if not part:
            raise EOFError
        return part

    def kill(self) -> None:
        """End the process at once."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        os.close(self._descriptor)
        self._writer.transport.abort()


class SqlBody:
    """The body of a result, which its process holds until it has been sent."""

    def __init__(self, reply: SandboxReply, process: SqlProcess, processes: SqlProcesses) -> None:
        """Limit the time of the client from now on.

        Args:
            reply: of the process.
            process: that sends the body.
            processes: that the process counts for.
        """
        self.reply = reply
        self._process = process
        self._processes = processes
        self._closed = False
        self._timer = asyncio.get_running_loop().call_later(SEND_SECONDS, self.close)

    async def parts(self) -> AsyncIterator[bytes]:
        """The parts of the body.

        Raises:
            EOFError: the client took too long, or the process died.
        """
        left = self.reply.size
        while left:
            part = await self._process.read()
            left -= len(part)
            yield part

    def close(self) -> None:
        """End the process, and let another take its place."""
        if not self._closed:
            self._closed = True
            self._timer.cancel()
            self._processes.release(self._process)


class SqlProcesses:
    """Runs the SQL queries of one worker of the service."""

    def __init__(self, *, max_running: int = 4) -> None:
        """The fork server is started with the first query.

        Args:
            max_running: queries that run or are sent at the same time; further ones are refused.
        """
        self._max_running = max_running
        self._running = 0
        self._fork_server: _ForkServer | None = None

    async def run(self, request: SandboxRequest) -> SqlBody:
        """Run a query in a process of its own. Cancelling the call kills the process.

        Returns:
            the body, which must be closed.

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
            process = await self._start()
            return SqlBody(await process.run(request), process, self)
        except BaseException:
            self.release(process)
            raise

    async def _start(self) -> SqlProcess:
        if self._fork_server is None or not self._fork_server.is_running():
            self._fork_server = _ForkServer()
        try:
            return await self._fork_server.fork()
        except OSError:  # it died, for example because memory was short
            log.warning("fork server of SQL processes died")
            self.close()
            self._fork_server = _ForkServer()
            return await self._fork_server.fork()

    def release(self, process: SqlProcess | None) -> None:
        """End a process that `run` has started."""
        self._running -= 1
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the fork server, and with it all queries."""
        fork_server, self._fork_server = self._fork_server, None
        if fork_server is not None:
            fork_server.close()


class _ForkServer:
    """The process that queries are forked from."""

    def __init__(self) -> None:
        self._control, child = socket.socketpair()
        with child:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",  # nothing is imported from the working directory
                    "-c",
                    _PROGRAM,
                    str(Path(tegakari.__file__).parents[1]),
                    str(os.getpid()),
                ],
                stdin=child.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                cwd="/",
            )

    def is_running(self) -> bool:
        return self.process.poll() is None

    async def fork(self) -> SqlProcess:
        """Start a process.

        Raises:
            OSError: the fork server has died.
        """
        own, child = socket.socketpair()
        try:
            with child:
                socket.send_fds(self._control, [b"\n"], [child.fileno()])
            own.setblocking(False)
            await _readable(own)
            _, descriptors, _, _ = socket.recv_fds(own, 1, 1)
        except BaseException:
            own.close()
            raise
        if not descriptors:
            own.close()
            raise ConnectionError("no process")
        try:
            reader, writer = await asyncio.open_connection(sock=own, limit=PART_BYTES)
            return SqlProcess(descriptors[0], reader, writer)
        except BaseException:
            os.close(descriptors[0])
            own.close()
            raise

    def close(self) -> None:
        self._control.close()
        self.process.kill()
        self.process.wait()


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    loop.add_reader(connection, lambda: readable.done() or readable.set_result(None))
    try:
        await readable
    finally:
        loop.remove_reader(connection)


def _environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    paths = {name: absolute_entries(os.environ[name]) for name in _INHERITED_PATHS if name in os.environ}
    # An empty LD_LIBRARY_PATH or PYTHONPATH is left out: the former means the working directory.
    return {**inherited, **{name: path for name, path in paths.items() if path}, **_LIMITED_THREADS}


def _deadline_error(request: SandboxRequest) -> DeadlineError:
    return DeadlineError(
        f"no result within {request.seconds:g} s", field="seconds", fix="simplify the query, or raise `seconds`"
    )
