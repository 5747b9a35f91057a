"""Where the time of a piece of work goes on a device: its kernels, the longest first.

    python -m benchmarks.gpu --part kernels

prints the kernels of an encode, of steps of SAE training, of a warm knockout and of four steps of a fine-tuning.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from benchmarks.case import Shape
from benchmarks.encode import TOP_K, inputs
from benchmarks.gpu.encode import IndexerCall
from benchmarks.gpu.random_model import SMOKE, device_of
from benchmarks.gpu.rerun import warm_knockout
from benchmarks.gpu.train import fine_tuning_steps, training_steps
from tegakari.models.memory import wait_for

REPEATS = 5
ROWS = 12
"""Kernels per table."""


def measure(smoke: bool = False) -> dict[str, float]:
    """Tables of kernels; the figures are microseconds of all kernels of each work."""
    device, shape = device_of(smoke), SMOKE if smoke else Shape()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    case = inputs(16 if smoke else 4096).to(device.type, dtype)
    top_k = case._replace(encoder=case.encoder._replace(k=TOP_K))
    works: dict[str, Callable[[], object]] = {
        "encode_with_contexts": IndexerCall(case, outliers=True, contexts=True),
        "encode_topk": IndexerCall(top_k),
        "sae_steps": training_steps(shape, device, 16 if smoke else 512),
        "warm_knockout": warm_knockout(shape, device, smoke=smoke),
        "fine_tuning": fine_tuning_steps(shape, device, smoke=smoke),
    }
    return {
        f"{name}_kernels_us": kernel_table(name, work, device, 1 if smoke else REPEATS) for name, work in works.items()
    }


def kernel_table(name: str, work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Print the kernels of a work; returns the microseconds of all of them in one run."""
    for _ in range(min(2, repeats)):
        work()
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiler:
        for _ in range(repeats):
            work()
        wait_for(device)
    times = [
        (event.key, (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / repeats, event.count)
        for event in profiler.key_averages()
    ]
    table = Table(title=name, title_justify="left")
    for column in ("kernel", "us", "launches"):
        table.add_column(column, justify="left" if column == "kernel" else "right")
    for kernel, microseconds, count in sorted(times, key=lambda row: -row[1])[:ROWS]:
        table.add_row(kernel[:80], f"{microseconds:.1f}", f"{count / repeats:.0f}")
    total = sum(microseconds for _, microseconds, _ in times)
    launches = sum(count for _, _, count in times) / repeats
    table.add_row("all", f"{total:.1f}", f"{launches:.0f}")
    Console(width=120).print(table)
    return total
