"""Times of work on a device, whichever it is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch


class Timing(NamedTuple):
    """Median times of one piece of work, in milliseconds."""

    device: float
    """from the start of the first kernel to the end of the last"""
    host: float
    """in which the host issues the work, without waiting for it"""


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one run, waiting for the device before and after."""
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def timing(work: Callable[[], object], repeats: int = 20) -> Timing:
    """Times of work after a warm-up of three runs."""
    for _ in range(3):
        work()
    host = []
    for _ in range(repeats):
        synchronize()
        start = time.perf_counter()
        work()
        host.append((time.perf_counter() - start) * 1e3)
    if not torch.cuda.is_available():
        return Timing(statistics.median(host), statistics.median(host))
    device = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        device.append(begin.elapsed_time(end))
    return Timing(statistics.median(device), statistics.median(host))
