"""What contexts and probes cost: time of `tegakari index` with and without them, bytes per feature, peak memory.

    python -m benchmarks.contexts [--documents 512] [--repeats 3]

A model of the shapes of SmolLM2-135M with few layers, an SAE of 4,096 features on each of which 5 % are active at a
position, documents of 30 to 300 tokens. A round indexes with and without contexts, each in a process of its own, in
turn; a ratio is the median over rounds. Peak memory is the highest resident set, also of four times the documents. The
last line is one JSON object.
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

import msgspec
from rich.console import Console

from benchmarks.case import Shape, make_case, with_store
from benchmarks.environments import WORK
from benchmarks.machine import machine, rounded
from tegakari.indexer.pipeline import index
from tegakari.schemas.config import Config
from tegakari.schemas.run import FORMAT, READ_FORMATS

SHAPE = Shape(
    layers=2,
    d_model=576,
    intermediate=1536,
    heads=9,
    kv_heads=3,
    head_dim=64,
    vocabulary=8192,
    d_sae=4096,
    active=222,
)
TIMES = 4

console = Console(width=120)


class Point(msgspec.Struct, frozen=True):
    """One index."""

    seconds: float
    """wall time, without loading the models"""
    processor_seconds: float
    """the same in processor time"""
    peak_bytes: int
    context_bytes: int
    """of contexts and probes"""
    run_bytes: int
    """of all files of the run"""
    stages: dict[str, float]


def index_once(config_file: Path, run_format: int) -> Point:
    """Index into a new store; measures its process, which must do nothing else."""
    config = msgspec.json.decode(config_file.read_bytes(), type=Config)
    store = config_file.with_name("contexts-store")
    shutil.rmtree(store, ignore_errors=True)
    start, processor = time.perf_counter(), time.process_time()
    manifest = index(with_store(config, store), run_format=run_format).manifest
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    shutil.rmtree(store)
    sizes = {file.path: file.size for file in manifest.files}
    return Point(
        seconds - manifest.timings["load"],
        processor - manifest.timings["load"],
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        sum(size for path, size in sizes.items() if path.startswith("contexts/")),
        sum(sizes.values()),
        manifest.timings,
    )


def measured(work: Path, documents: int, run_format: int) -> Point:
    """A point, in a process of its own."""
    root = work / f"contexts-{documents}"
    config = make_case(root, SHAPE, documents)
    config_file = root / "config.json"
    config_file.write_bytes(msgspec.json.encode(config))
    command = [sys.executable, "-m", "benchmarks.contexts", "--once", str(config_file), "--format", str(run_format)]
    process = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ)
    point = msgspec.json.decode(process.stdout.splitlines()[-1], type=Point)
    console.print(f"{documents} documents, format {run_format}: {point}")
    return point


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the points and one JSON object."""
    parser = argparse.ArgumentParser(description="Time, bytes and memory of contexts and probes.")
    parser.add_argument("--documents", type=int, default=512, help="of the smaller corpus")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--work", type=Path, default=WORK, help="directory for models and stores")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--format", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.once:
        sys.stdout.write(msgspec.json.encode(index_once(options.once, options.format)).decode() + "\n")
        return
    work, old = options.work.resolve(), READ_FORMATS[0]
    rounds = [
        (measured(work, options.documents, old), measured(work, options.documents, FORMAT))
        for _ in range(options.repeats)
    ]
    larger = measured(work, TIMES * options.documents, old), measured(work, TIMES * options.documents, FORMAT)
    features = SHAPE.layers * SHAPE.d_sae
    last = rounds[-1][1]
    result = {
        "processor_time_ratio": statistics.median(new.processor_seconds / old.processor_seconds for old, new in rounds),
        "time_ratio": statistics.median(new.seconds / old.seconds for old, new in rounds),
        f"processor_time_ratio_{TIMES}x": larger[1].processor_seconds / larger[0].processor_seconds,
        "bytes_per_feature": last.context_bytes / features,
        f"bytes_per_feature_{TIMES}x": larger[1].context_bytes / features,
        "share_of_run": last.context_bytes / last.run_bytes,
        "peak_megabytes": {"without": rounds[-1][0].peak_bytes / 1e6, "with": last.peak_bytes / 1e6},
        f"peak_megabytes_{TIMES}x": {"without": larger[0].peak_bytes / 1e6, "with": larger[1].peak_bytes / 1e6},
        "documents": options.documents,
    }
    sys.stdout.write(json.dumps(rounded(result) | machine()) + "\n")


if __name__ == "__main__":
    main()
