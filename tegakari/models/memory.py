"""Free memory of a device, the peak of this process, and the end of a device's work."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import torch


def free_bytes(device: torch.device) -> int:
    """Bytes that can be allocated now: on the GPU, or on the machine within the limit of its container (cgroup v2)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    page = os.sysconf("SC_PAGE_SIZE")
    free = os.sysconf("SC_PHYS_PAGES") * page // 2  # a guess, for systems without /proc/meminfo
    if (memory := Path("/proc/meminfo")).is_file():
        fields = dict(line.split(":", 1) for line in memory.read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and (maximum := limit.read_text().strip()) != "max":
        free = min(free, int(maximum) - int(used.read_text()))
    return free


def peak_bytes(device: torch.device) -> int:
    """The largest amount of memory held so far: allocated on the GPU, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has finished all work that was issued to it, so that a clock read afterwards includes it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
