"""The process that SQL queries are forked from: it imports everything once, so that a query starts in milliseconds.

It serves one process of the service, over a Unix socket that is its standard input. Per query it receives one end of a
connection and forks. The fork sends its own descriptor (a pidfd), receives one request, sends reply and body, and ends.
The fork server itself never sees a query.

What bounds a query is set before it is read, in the kernel, so that it also holds when the service is killed.
"""

from __future__ import annotations

import math
import os
import resource
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pyarrow as pa

from tegakari.store.processes import die_with_parent
from tegakari.store.sql.attach import table_definitions
from tegakari.store.sql.sandbox import THREADS, SandboxRequest, check, connect, execute

ADDRESS_SPACE = 6 * 2**30
"""Address space of a process in bytes; reserved but unused memory counts."""

DATA = 3 * 2**30
"""Private memory of a process in bytes, of which Arrow reserves one GiB."""

NICE = 5
"""Requests that need no SQL come first where processors are short."""

GRACE_SECONDS = 0.6
"""From the end of a query's time, when it is interrupted, until the kernel ends its process."""

SEND_SECONDS = 60
"""Time to send a body."""


def main() -> None:
    """Fork a process per query until the service closes its connection."""
    service = int(sys.argv[2])
    die_with_parent(service)
    os.closerange(3, 4096)  # inherited from the service
    control = socket.socket(fileno=0)
    _limit_resources()
    pa.set_cpu_count(THREADS)
    pa.set_io_thread_count(THREADS)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel removes processes that have ended
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the service
    steps = [_import_datasets, _open_database]
    own = os.getpid()
    while True:
        while steps and not select.select([control], [], [], 0)[0]:  # queries that wait go first
            steps.pop()()
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            _serve_query(socket.socket(fileno=descriptors[0]), own)
        os.close(descriptors[0])


def _limit_resources() -> None:
    os.nice(NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_DATA, (DATA, DATA))


# What every query needs is done once, without leaving a thread behind, which a fork would not have.


def _open_database() -> None:
    table_definitions()
    with connect(Path("/"), [], ()) as connection:
        check(connection, "SELECT 1")


def _import_datasets() -> None:
    """Import what reads activations, and pandas with it where it is installed: 0.3 s; and what writes XLSX."""
    import pyarrow.dataset  # noqa: F401
    import xlsxwriter  # noqa: F401


def _serve_query(connection: socket.socket, fork_server: int) -> None:
    """Run one query, and end the process."""
    try:
        die_with_parent(fork_server)
        descriptor = os.pidfd_open(os.getpid())
        socket.send_fds(connection, [b"\n"], [descriptor])
        os.close(descriptor)
        with connection.makefile("rwb") as stream:
            line = stream.readline()
            if line:
                request = msgspec.json.decode(line, type=SandboxRequest)
                _limit_time(request.seconds)
                reply, body = execute(request)
                signal.setitimer(signal.ITIMER_REAL, SEND_SECONDS)
                stream.write(msgspec.json.encode(reply) + b"\n")
                stream.write(body)
                stream.flush()
    finally:
        os._exit(0)  # without waiting for the threads of an interrupted query


def _limit_time(seconds: float) -> None:
    """Let the kernel end this process soon after its time, whatever it does and whoever still watches it."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + GRACE_SECONDS)
    used = resource.getrusage(resource.RUSAGE_SELF)
    processor = math.ceil(used.ru_utime + used.ru_stime + (seconds + GRACE_SECONDS) * (THREADS + 1)) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (processor, processor))


if __name__ == "__main__":
    main()
