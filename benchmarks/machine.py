"""Description of the machine of a benchmark, its clock, and rounded figures."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch

from tegakari.kernels import backend

Value = TypeVar("Value")


def clock_of(arguments: argparse.Namespace) -> str:
    """Name of the function of `time` that `--processor-time` chooses."""
    return "process_time" if arguments.processor_time else "perf_counter"


def add_clock_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count processor seconds: for a shared machine, with one thread (OMP_NUM_THREADS=1)",
    )


def machine() -> dict[str, str | int]:
    """Processor, threads, versions and path of encode, for the last line of a benchmark."""
    processor = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        processor = next(
            (line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), processor
        )
    return {
        "processor": processor,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "backend": backend("cpu"),
    }


def rounded(figures: Mapping[str, Value]) -> dict[str, Value | float]:
    """Figures rounded to four decimals."""
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}
