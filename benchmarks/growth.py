"""Time and memory of `tegakari index` as the corpus grows: 1, 4 and 16 times the documents, each in its own process.

    python -m benchmarks.growth [--documents 500]

A small model, so that the weights do not hide the growth with the documents. Peak memory is the highest
resident set of the process. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.case import SMALL, make_case, with_store
from benchmarks.environments import WORK
from benchmarks.machine import machine, rounded
from tegakari.indexer.pipeline import index
from tegakari.schemas.config import Config

TIMES = (1, 4, 16)
SHAPE = SMALL._replace(layers=3)

console = Console(width=120)


class Point(msgspec.Struct, frozen=True):
    """Time and memory of indexing one corpus."""

    seconds: float
    """wall time of `index`, without loading the models"""
    processor_seconds: float
    """processor time of the whole process"""
    peak_bytes: int
    tokens: int
    """positions indexed"""
    stages: dict[str, float]


def index_once(config_file: Path) -> Point:
    """Index into a new store; measures its process, which must do nothing else."""
    config = msgspec.json.decode(config_file.read_bytes(), type=Config)
    store = config_file.with_name("growth-store")
    shutil.rmtree(store, ignore_errors=True)
    start = time.perf_counter()
    manifest = index(with_store(config, store)).manifest
    seconds = time.perf_counter() - start - manifest.timings["load"]
    shutil.rmtree(store)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    kibibytes = usage.ru_maxrss if sys.platform == "linux" else usage.ru_maxrss // 1024
    return Point(seconds, usage.ru_utime + usage.ru_stime, kibibytes * 1024, manifest.positions, manifest.timings)


def measure(work: Path, documents: int) -> dict[int, Point]:
    """Points of all sizes, by multiple of the documents."""
    points = {}
    for times in TIMES:
        root = work / f"growth-{times * documents}"
        config = make_case(root, SHAPE, times * documents)
        config_file = root / "config.json"
        config_file.write_bytes(msgspec.json.encode(config))
        command = [sys.executable, "-m", "benchmarks.growth", "--once", str(config_file)]
        process = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ)
        points[times] = msgspec.json.decode(process.stdout.splitlines()[-1], type=Point)
        console.print(f"{times}x: {points[times]}")
    return points


def show(points: dict[int, Point], documents: int) -> None:
    table = Table(title="Index as the corpus grows", title_justify="left")
    for column in ("documents", "positions", "s", "processor s", "peak MB", "stages, s"):
        table.add_column(column, justify="left" if column.startswith("stages") else "right")
    for times, point in points.items():
        stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in point.stages.items() if seconds >= 0.05)
        figures = (point.seconds, point.processor_seconds, point.peak_bytes / 1e6)
        table.add_row(f"{times * documents:,}", f"{point.tokens:,}", *(f"{figure:.1f}" for figure in figures), stages)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time and peak memory of index at 1, 4 and 16 times the documents.")
    parser.add_argument("--documents", type=int, default=500, help="of the smallest corpus")
    parser.add_argument("--work", type=Path, default=WORK, help="directory for models and stores")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.once:
        sys.stdout.write(msgspec.json.encode(index_once(options.once)).decode() + "\n")
        return
    points = measure(options.work.resolve(), options.documents)
    show(points, options.documents)
    first, last = points[TIMES[0]], points[TIMES[-1]]
    result = {
        "peak_memory_growth": last.peak_bytes / first.peak_bytes,
        "time_16x_over_1x": last.seconds / first.seconds,
        "processor_time_16x_over_1x": last.processor_seconds / first.processor_seconds,
        "tokens_16x_over_1x": last.tokens / first.tokens,
        "peak_megabytes": {f"{times}x": round(point.peak_bytes / 1e6) for times, point in points.items()},
        "documents": options.documents,
    }
    sys.stdout.write(json.dumps(rounded(result) | machine()) + "\n")


if __name__ == "__main__":
    main()
