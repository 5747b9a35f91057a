"""Memory, descriptors, processes and threads of a process and its descendants over time, as curves."""

from __future__ import annotations

import re
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_FIELDS = {"VmRSS": 1024, "RssAnon": 1024, "Threads": 1}
"""Fields of /proc/PID/status that are added up, and their units in bytes or pieces."""


class Sample(NamedTuple):
    """Sums over all processes at one moment; those of SQL queries, which live for seconds, are counted apart."""

    seconds: float
    """since the start"""
    resident: int
    """bytes, mapped files included"""
    anonymous: int
    """bytes without mapped files"""
    sql_resident: int
    """bytes of the processes of SQL queries"""
    descriptors: int
    """open files and sockets"""
    processes: int
    sql_processes: int
    threads: int


def descendants(pid: int) -> Iterator[int]:
    """A process and all processes below it that exist now."""
    yield pid
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in file.read_text().split():
                yield from descendants(int(child))


def sample(pid: int, seconds: float) -> Sample:
    """Measure a process and its descendants; what ends meanwhile is left out."""
    sums = {"VmRSS": 0, "RssAnon": 0, "Threads": 0, "sql": 0, "descriptors": 0, "processes": 0, "sql_processes": 0}
    for process in descendants(pid):
        with suppress(OSError):
            status = Path(f"/proc/{process}/status").read_text()
            values = {name: unit * int(match[1]) for name, unit in _FIELDS.items() if (match := _field(name, status))}
            command = Path(f"/proc/{process}/cmdline").read_bytes()
            descriptors = sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())
            if b"tegakari.store.sql" in command:
                sums["sql"] += values.get("VmRSS", 0)
                sums["sql_processes"] += 1
                continue
            for name, value in values.items():
                sums[name] += value
            sums["descriptors"] += descriptors
            sums["processes"] += 1
    return Sample(
        seconds=seconds,
        resident=sums["VmRSS"],
        anonymous=sums["RssAnon"],
        sql_resident=sums["sql"],
        descriptors=sums["descriptors"],
        processes=sums["processes"],
        sql_processes=sums["sql_processes"],
        threads=sums["Threads"],
    )


def _field(name: str, status: str) -> re.Match[str] | None:
    return re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)


class Watch(threading.Thread):
    """Samples a process until it is stopped."""

    def __init__(self, pid: int, period: float) -> None:
        """Start with the first sample.

        Args:
            pid: of the process.
            period: seconds between two samples.
        """
        super().__init__(name="watch", daemon=True)
        self.samples: list[Sample] = []
        self.start_time = time.monotonic()
        self.health: list[tuple[float, float]] = []
        """(seconds since the start, duration) of requests for /healthz, which the load appends"""
        self._pid = pid
        self._period = period
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            seconds = time.monotonic() - self.start_time
            self.samples.append(sample(self._pid, seconds))
            self._stopping.wait(self._period)

    def stop(self) -> None:
        """Take no further sample."""
        self._stopping.set()
        self.join()


def median_between(samples: Sequence[Sample], name: str, start: float, end: float) -> float:
    """Median of a field over the samples of a time span; at least one sample must lie in it."""
    return statistics.median(getattr(sample, name) for sample in samples if start <= sample.seconds <= end)


def draw(
    samples: Sequence[Sample], health: Sequence[tuple[float, float]], file: Path, *, load_end: float, title: str
) -> None:
    """Write the curves as PNG.

    Args:
        samples: in the order of time.
        health: (seconds since the start, duration) of requests for /healthz.
        file: to write.
        load_end: seconds at which the load ended, drawn as a line.
        title: above the curves.
    """
    from matplotlib.figure import Figure

    minutes = [sample.seconds / 60 for sample in samples]
    figure = Figure(figsize=(9, 11), layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(5, 1, sharex=True)

    def curve(axis: int, label: str, values: Sequence[float]) -> None:
        axes[axis].plot(minutes, values, label=label, lw=0.9)

    curve(0, "service, resident", [sample.resident / 1e6 for sample in samples])
    curve(0, "service, without mapped files", [sample.anonymous / 1e6 for sample in samples])
    curve(0, "SQL queries, resident", [sample.sql_resident / 1e6 for sample in samples])
    curve(1, "open files and sockets", [sample.descriptors for sample in samples])
    curve(2, "threads", [sample.threads for sample in samples])
    curve(3, "service", [sample.processes for sample in samples])
    curve(3, "SQL queries", [sample.sql_processes for sample in samples])
    axes[4].plot(
        [at / 60 for at, _ in health], [duration * 1000 for _, duration in health], ".", ms=2, label="/healthz"
    )
    for axis, unit in zip(axes, ("MB", "descriptors", "threads", "processes", "ms"), strict=True):
        axis.set_ylabel(unit)
        axis.set_ylim(bottom=0)
        axis.axvline(load_end / 60, color="grey", lw=0.6, ls="--")
        axis.legend(loc="upper left", fontsize=7)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("minutes; the dashed line is the end of the load")
    figure.savefig(file, dpi=80)
