"""Times of work on a device, and how often the host waited for it."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch

from tegakari.models.memory import wait_for


def seconds(work: Callable[[], object], device: torch.device, repeats: int = 5, warm: int = 1) -> float:
    """Median seconds of a function until its work on the device has ended.

    Args:
        work: issues the work.
        device: of the work.
        repeats: timed calls.
        warm: calls before them, which are not timed.
    """
    for _ in range(warm):
        work()
    times = []
    for _ in range(repeats):
        wait_for(device)
        start = time.perf_counter()
        work()
        wait_for(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def waits(work: Callable[[], object], device: torch.device) -> int:
    """Number of calls by which a function makes the host wait for a GPU; 0 on a CPU, where none is noticed."""
    if device.type != "cuda":
        work()
        return 0
    wait_for(device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing" in str(warning.message) for warning in caught)


class Timing(NamedTuple):
    """Median times of one piece of work, in milliseconds."""

    device: float
    """from the start of the first kernel to the end of the last"""
    host: float
    """in which the host issues the work, without waiting for it"""


def timing(work: Callable[[], object], device: torch.device, repeats: int = 20) -> Timing:
    """Times of work after a warm-up of three runs; on a CPU both are the time of the work."""
    for _ in range(3):
        work()
    host = []
    for _ in range(repeats):
        wait_for(device)
        start = time.perf_counter()
        work()
        host.append((time.perf_counter() - start) * 1e3)
    if device.type != "cuda":
        return Timing(statistics.median(host), statistics.median(host))
    on_device = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        on_device.append(begin.elapsed_time(end))
    return Timing(statistics.median(on_device), statistics.median(host))
