"""Seconds of work on a device, and how often the host waited for it."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable

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
