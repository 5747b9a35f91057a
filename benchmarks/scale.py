"""Growth laws of `tegakari index`: time, memory and bytes against documents, features, labels and layers.

    python -m benchmarks.scale [--axes documents,features,labels,layers] [--small]

The real pipeline on invented posts and a Gemma 2 classifier with random weights (`benchmarks/case.py`), at four sizes
per axis, each twice the one before, with all other sizes at their base. Each size runs in a process of its own. Time is
processor time of `index`, since the machine is shared; memory is the highest resident
set; bytes are those of the published run, and of the unfinished work when its layers begin to be merged.

A law is y = a x^b, fitted by least squares to the logarithms of the four points; nothing is subtracted, so that costs
that do not grow lower b. `last` is b between the two largest sizes. The last line is one JSON object.
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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.case import SMALL, Shape, make_case, with_store
from benchmarks.environments import WORK
from benchmarks.machine import machine, rounded
from tegakari.indexer.pipeline import index
from tegakari.schemas.config import Config
from tegakari.schemas.progress import NoProgress
from tegakari.store.disk.layout import work_directory

console = Console(width=130)


class Size(NamedTuple):
    """Sizes of an index."""

    documents: int = 256
    features: int = 512
    labels: int = 8
    layers: int = 4

    @property
    def shape(self) -> Shape:
        """Of the models: active features and widths of the classifier are those of SMALL."""
        return SMALL._replace(layers=self.layers, d_sae=self.features)


AXES: dict[str, tuple[int, ...]] = {
    "documents": (512, 1024, 2048, 4096),
    "features": (512, 1024, 2048, 4096),
    "labels": (2, 4, 8, 16),
    "layers": (2, 4, 8, 16),
}
"""Sizes of each axis."""

FIGURES = ("processor_seconds", "peak_bytes", "run_bytes", "work_bytes")


class Point(msgspec.Struct, frozen=True):
    """One index."""

    processor_seconds: float
    peak_bytes: int
    run_bytes: int
    """of all files of the run"""
    work_bytes: int
    """of the shards, before they are merged"""
    stages: dict[str, float]
    """wall seconds"""


class WorkBytes(NoProgress):
    """Measures the unfinished work when its layers begin to be merged."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self.bytes = 0

    def stage(self, name: str, total: int | None = None, *, done: int = 0) -> None:
        if name == "merging layers":
            self.bytes = sum(file.stat().st_size for file in self._work.rglob("*") if file.is_file())


def index_once(config_file: Path) -> Point:
    """Index into a new store; measures its process, which must do nothing else."""
    config = msgspec.json.decode(config_file.read_bytes(), type=Config)
    store = config_file.with_name("scale-store")
    shutil.rmtree(store, ignore_errors=True)
    progress = WorkBytes(work_directory(store, config.index.run))
    start = time.process_time()
    manifest = index(with_store(config, store), progress).manifest
    seconds = time.process_time() - start
    shutil.rmtree(store)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Point(seconds, peak, sum(file.size for file in manifest.files), progress.bytes, manifest.timings)


def measured(work: Path, size: Size) -> Point:
    """A point, in a process of its own."""
    root = work / "scale-{}-{}-{}-{}".format(*size)
    config = make_case(root, size.shape, size.documents, labels=size.labels)
    config_file = root / "config.json"
    config_file.write_bytes(msgspec.json.encode(config))
    command = [sys.executable, "-m", "benchmarks.scale", "--once", str(config_file)]
    process = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ)
    point = msgspec.json.decode(process.stdout.splitlines()[-1], type=Point)
    console.print(f"{size}: {rounded(msgspec.to_builtins(point))}")
    return point


class Law(NamedTuple):
    """y = factor x^exponent."""

    factor: float
    exponent: float
    last: float
    """exponent between the two largest sizes"""


def fit(sizes: Sequence[float], values: Sequence[float]) -> Law:
    """Fit a law by least squares to the logarithms.

    Args:
        sizes: ascending.
        values: above 0, parallel to `sizes`.
    """
    x, y = np.log(sizes), np.log(values)
    exponent, constant = np.polyfit(x, y, 1)
    return Law(float(np.exp(constant)), float(exponent), float((y[-1] - y[-2]) / (x[-1] - x[-2])))


def show(axis: str, points: Mapping[int, Point], laws: Mapping[str, Law]) -> None:
    table = Table(title=f"index against {axis}", title_justify="left")
    for column in (axis, "processor s", "peak MB", "run MB", "work MB"):
        table.add_column(column, justify="right")
    for size, point in points.items():
        figures = (point.peak_bytes / 1e6, point.run_bytes / 1e6, point.work_bytes / 1e6)
        table.add_row(f"{size:,}", f"{point.processor_seconds:.1f}", *(f"{figure:,.0f}" for figure in figures))
    for name in ("exponent", "last"):
        table.add_row(name, *(f"{getattr(laws[figure], name):.2f}" for figure in FIGURES))
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table per axis and one JSON object."""
    parser = argparse.ArgumentParser(description="Growth laws of index.")
    parser.add_argument("--axes", default=",".join(AXES), help="which to measure")
    parser.add_argument("--small", action="store_true", help="an eighth of the documents and features, to try it")
    parser.add_argument("--work", type=Path, default=WORK, help="directory for models and stores")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.once:
        sys.stdout.write(msgspec.json.encode(index_once(options.once)).decode() + "\n")
        return
    less = 8 if options.small else 1
    points: dict[Size, Point] = {}
    result: dict[str, float] = {}
    for axis in options.axes.split(","):
        of_axis = {}
        for number in AXES[axis]:
            size = Size()._replace(**{axis: number})
            size = size._replace(documents=size.documents // less, features=size.features // less)
            points[size] = points.get(size) or measured(options.work.resolve(), size)
            of_axis[getattr(size, axis)] = points[size]
        values = {figure: [getattr(point, figure) for point in of_axis.values()] for figure in FIGURES}
        laws = {figure: fit(list(of_axis), values[figure]) for figure in FIGURES}
        show(axis, of_axis, laws)
        result |= {
            f"exponent_{axis}": laws["processor_seconds"].exponent,
            f"exponent_{axis}_last": laws["processor_seconds"].last,
            f"exponent_{axis}_peak": laws["peak_bytes"].exponent,
            f"exponent_{axis}_run_bytes": laws["run_bytes"].exponent,
            f"exponent_{axis}_work_bytes": laws["work_bytes"].exponent,
        }
    sys.stdout.write(json.dumps(rounded(result) | machine()) + "\n")


if __name__ == "__main__":
    main()
