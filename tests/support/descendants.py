"""Processes below a process, as /proc shows them."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path


def children(pid: int) -> list[int]:
    """Process ids of the children of a process; empty if it has ended."""
    pids: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            pids += map(int, task.read_text().split())
    return pids


def descendants(pid: int) -> list[int]:
    """Process ids of all processes below a process."""
    pids = children(pid)
    for child in pids:
        pids += children(child)
    return pids


def command_line(pid: int) -> bytes:
    """Command line of a process; empty if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def running_queries(pid: int) -> int:
    """Number of processes of SQL queries below a process: the forks of the fork servers of its workers."""
    return sum(len(children(child)) for child in descendants(pid) if b"fork_server" in command_line(child))


def wait_for_queries(pid: int, number: int, *, seconds: float = 60) -> None:
    """Wait until so many SQL queries run below a process."""
    end = time.monotonic() + seconds
    while running_queries(pid) != number:
        assert time.monotonic() < end, f"{running_queries(pid)} queries run, not {number}"
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    """Whether a process has neither ended nor is waiting for its parent to notice that it has."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False
