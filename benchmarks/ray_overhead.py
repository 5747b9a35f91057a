"""What a Ray actor costs per shard beside a worker in this process.

    python -m benchmarks.ray_overhead [--ray ADDRESS] [--documents 512] [--shard-documents 2]

Without an address, a cluster of one node is started in a network namespace (needs root). A worker of this process and
one in an actor, both with their models loaded, index every shard, one directly after the other, in an order that
alternates: a pair differs by Ray, and whatever else the machine does is in both. `ray_overhead_ms` is the median of the
paired differences. An actor also tells how long a shard took inside it: `ray_call_ms` is the median of the rest of its
time, which is Ray's alone, and `ray_driver_cpu_ms` the processor time of the driver per call. An index gives an actor
three shards at once, so that most of it is hidden there. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from benchmarks.case import SMALL, make_case, with_store
from benchmarks.environments import WORK
from benchmarks.machine import machine, rounded
from tegakari.indexer.executors import InProcess, WorkerSettings
from tegakari.indexer.executors.partial_places import SharedDisk
from tegakari.indexer.executors.ray_cluster import connected
from tegakari.indexer.executors.ray_worker import RayWorker
from tegakari.indexer.index_models import IndexModels
from tegakari.indexer.merged_layer import LayerMerge
from tegakari.indexer.pipeline import index_part
from tegakari.indexer.shard import Shard
from tests.support.ray_nodes import ray_nodes

WARM_UP = 16
"""Shards before those that count."""


class TimedWorker(RayWorker):
    """An actor that tells how long a shard took."""

    def seconds(self, shard: Shard) -> float:
        """Index a shard and write its partial."""
        start = time.perf_counter()
        self.write(shard)
        return time.perf_counter() - start


class Pair(NamedTuple):
    """Milliseconds of one shard."""

    here: float
    """in this process"""
    there: float
    """from the call of the actor to its result"""
    inside: float
    """in the actor"""
    driver_cpu: float
    """processor time of this process during the call"""


class Paired:
    """An executor that indexes every shard twice."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.pairs: list[Pair] = []

    def index(self, settings: WorkerSettings, models: IndexModels, shards: Sequence[Shard]) -> Iterator[Shard]:
        import ray  # pyright: ignore[reportMissingImports]

        here = settings._replace(bounds=None).writer(models.classifier, models.saes)
        with connected(self._address), tempfile.TemporaryDirectory(dir=settings.partials.parent) as directory:
            partials = Path(directory).resolve()
            (partials / "token").touch()
            actor = ray.remote(num_cpus=1)(TimedWorker).remote()
            place = SharedDisk(partials, partials / "token")
            ray.get(actor.load.remote(settings._replace(partials=partials, bounds=None), place))
            for number, shard in enumerate(shards):

                def call(shard: Shard = shard) -> float:
                    return ray.get(actor.seconds.remote(shard))

                def write(shard: Shard = shard) -> None:
                    here.write(shard)

                self._measure(write, call, actor_first=number % 2 == 1)
                yield shard

    def merge(self, merge: LayerMerge, layers: Mapping[int, int]) -> Iterator[int]:
        """As `InProcess.merge`."""
        return InProcess().merge(merge, layers)

    def _measure(self, write: Callable[[], None], call: Callable[[], float], *, actor_first: bool) -> None:
        own = timed(write)[0] if not actor_first else 0.0
        cpu = time.process_time()
        there, inside = timed(call)
        cpu = time.process_time() - cpu
        own = own or timed(write)[0]
        self.pairs.append(Pair(*(1000 * seconds for seconds in (own, there, inside, cpu))))


def timed(function: Callable[[], float | None]) -> tuple[float, float]:
    """Seconds that a call takes, and its result as a number."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result or 0.0


def measure(address: str, work: Path, documents: int, shard_documents: int) -> dict[str, float]:
    """Index a small case both ways."""
    config = make_case(work / f"ray-overhead-{documents}", SMALL, documents)
    settings = msgspec.structs.replace(config.index, shard_documents=shard_documents)
    config = msgspec.structs.replace(config, index=settings)
    executor = Paired(address)
    with tempfile.TemporaryDirectory(dir=work) as store:
        index_part(with_store(config, Path(store)), executor=executor)
    here, there, inside, cpu = np.array(executor.pairs[WARM_UP:]).T
    low, middle, high = np.quantile(there - here, (0.25, 0.5, 0.75))
    return {
        "ray_overhead_ms": float(middle),
        "ray_overhead_quartile_1": float(low),
        "ray_overhead_quartile_3": float(high),
        "ray_call_ms": float(np.median(there - inside)),
        "ray_driver_cpu_ms": float(np.mean(cpu)),
        "in_process_ms": float(np.median(here)),
        "actor_ms": float(np.median(there)),
        "shards": float(len(here)),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description="Cost of a Ray actor per shard.")
    parser.add_argument("--ray", help="address of a running cluster of this machine")
    parser.add_argument("--documents", type=int, default=512)
    parser.add_argument("--shard-documents", type=int, default=2)
    parser.add_argument("--work", type=Path, default=WORK, help="directory for models and stores")
    options = parser.parse_args(arguments)
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if options.ray is None:
        with tempfile.TemporaryDirectory() as directory, ray_nodes(Path(directory), 1, cpus=2) as nodes:
            program = [sys.executable, "-m", "benchmarks.ray_overhead", "--ray", nodes.address, "--work", str(work)]
            program += ["--documents", str(options.documents), "--shard-documents", str(options.shard_documents)]
            code = nodes.start(0, program).wait()
            logs = sorted(Path(directory).glob("node-0-*.log"), key=lambda file: file.stat().st_mtime)
            sys.stdout.write(logs[-1].read_text())
            if code:
                raise subprocess.CalledProcessError(code, program)
        return
    result = measure(options.ray, work, options.documents, options.shard_documents)
    sys.stdout.write(json.dumps(rounded(result) | machine()) + "\n")


if __name__ == "__main__":
    main()
