"""Memory of the merge at 1 and 16 times the shards, and its time with 1 and 2 processes.

    python -m benchmarks.merge_growth [--shards 8] [--memory-gb 0.25] [--rounds 3]

Synthetic partials of two layers of 8,192 features, 200 labels and 128 documents per shard, 500 active features per
document (`benchmarks/study_scale.py`), written by the code of `index`. Each merge runs in a process of its own, which
starts as many others as are measured; the peak is that of the largest of them. `merge_memory_growth` is the peak at 16
times the shards over that at 1 time. The peak of the processes that merge layers and that of the process that writes
the tables, which has all documents, are shown apart. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.environments import WORK
from tegakari.indexer.merge_memory import GIGABYTE

if TYPE_CHECKING:  # processes that merge import this module as well, but not models and Lance
    from benchmarks.study_scale import Size

TIMES = (1, 16)
SHARD_DOCUMENTS = 128

console = Console(width=120)


class Point(NamedTuple):
    """One merge."""

    seconds: float
    processor_seconds: float
    """of all processes"""
    layer_megabytes: float
    """peak of the largest process that merges layers"""
    table_megabytes: float
    """peak of the process that writes the tables, which merges nothing if there are others"""
    partial_megabytes: float
    """size of all partials"""

    @property
    def megabytes(self) -> float:
        return max(self.layer_megabytes, self.table_megabytes)


def merge_once(work: Path, size: Size, processes: int, memory: int) -> Point:
    """Merge partials that exist; measures its process, which must do nothing else."""
    from benchmarks.study_scale import merge_study, write_study_shards
    from tegakari.indexer.executors import Processes

    documents, shards = write_study_shards(work, size)
    for left in ("layers", "merged"):
        shutil.rmtree(work / left, ignore_errors=True)
    start = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF)
    merge_study(work, work / "merged", size, documents, shards, Processes(processes), memory)
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    used = own.ru_utime + own.ru_stime - before.ru_utime - before.ru_stime + others.ru_utime + others.ru_stime
    partials = sum(file.stat().st_size for file in (work / "shards").rglob("arrays.bin"))
    return Point(
        time.perf_counter() - start,
        used,
        others.ru_maxrss / 1024 if others.ru_maxrss else own.ru_maxrss / 1024,
        own.ru_maxrss / 1024,
        partials / 1e6,
    )


def measured(work: Path, size: Size, processes: int, memory: int) -> Point:
    """A point, in a process of its own."""
    from benchmarks.study_scale import write_study_shards

    write_study_shards(work, size, processes=2)
    command = [sys.executable, "-m", "benchmarks.merge_growth", "--work", str(work)]
    command += ["--once", json.dumps(size._asdict()), str(processes), str(memory)]
    process = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ)
    point = Point(*json.loads(process.stdout.splitlines()[-1]))
    console.print(f"{size.documents:,} documents, {processes} processes: {point}")
    return point


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the points and one JSON object."""
    from benchmarks.machine import machine, rounded
    from benchmarks.study_scale import Size

    parser = argparse.ArgumentParser(description="Memory and time of the merge as shards grow.")
    parser.add_argument("--shards", type=int, default=8, help="of the smaller run")
    parser.add_argument("--memory-gb", type=float, default=0.25, help="index.merge_memory_gb")
    parser.add_argument("--rounds", type=int, default=3, help="of the larger run, with 1 and 2 processes")
    parser.add_argument("--work", type=Path, default=WORK, help="directory for partials")
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.once:
        size, processes, memory = options.once
        point = merge_once(options.work, Size(**json.loads(size)), int(processes), int(memory))
        sys.stdout.write(json.dumps(point) + "\n")
        return
    memory = round(options.memory_gb * GIGABYTE)
    sizes = [Size(2, 8192, 200, times * options.shards * SHARD_DOCUMENTS, active=500, d_model=256) for times in TIMES]
    works = [options.work.resolve() / f"merge-growth-{size.documents}" for size in sizes]
    small = measured(works[0], sizes[0], 2, memory)
    pairs = [
        (measured(works[1], sizes[1], 1, memory), measured(works[1], sizes[1], 2, memory))
        for _ in range(options.rounds)
    ]
    large = pairs[0][1]
    table = Table(title=f"Merge of 2 layers, merge_memory_gb {options.memory_gb:g}", title_justify="left")
    for column in ("shards", "partials MB", "peak MB of a layer", "peak MB of the tables", "s", "processor s"):
        table.add_column(column, justify="right")
    for times, point in zip(TIMES, (small, large), strict=True):
        megabytes = (point.partial_megabytes, point.layer_megabytes, point.table_megabytes)
        seconds = (point.seconds, point.processor_seconds)
        table.add_row(
            f"{times * options.shards}",
            *(f"{figure:,.0f}" for figure in megabytes),
            *(f"{figure:.1f}" for figure in seconds),
        )
    console.print(table)
    result = {
        "merge_memory_growth": large.megabytes / small.megabytes,
        "merge_layer_memory_growth": large.layer_megabytes / small.layer_megabytes,
        "merge_table_memory_growth": large.table_megabytes / small.table_megabytes,
        "partial_growth": large.partial_megabytes / small.partial_megabytes,
        "merge_peak_megabytes": {f"{times}x": p.megabytes for times, p in zip(TIMES, (small, large), strict=True)},
        "merge_seconds_1_process": statistics.median(one.seconds for one, _ in pairs),
        "merge_seconds_2_processes": statistics.median(two.seconds for _, two in pairs),
        "merge_two_over_one": statistics.median(two.seconds / one.seconds for one, two in pairs),
        "shards": [times * options.shards for times in TIMES],
        "merge_memory_gb": options.memory_gb,
        "cores": os.cpu_count(),
    }
    sys.stdout.write(json.dumps(rounded(result) | machine()) + "\n")


if __name__ == "__main__":
    main()
