"""What a Ray actor costs per shard beside a worker in this process.

    python -m benchmarks.ray_overhead --ray ADDRESS [--documents 512] [--shard-documents 8] [--rounds 3]

The cluster runs already, on this machine. A round indexes the same shards in this process and on one actor, in turn;
the time per shard is that between the first and the last finished shard, so that neither the loading of models nor the
start of the actor counts. `ray_overhead_ms` is the median of the differences. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks.case import SMALL, make_case, with_store
from benchmarks.environments import WORK
from benchmarks.machine import machine, rounded
from tegakari.indexer.executors import Executor, InProcess, WorkerSettings
from tegakari.indexer.executors.ray_actors import RayActors
from tegakari.indexer.index_models import IndexModels
from tegakari.indexer.merged_layer import LayerMerge
from tegakari.indexer.pipeline import index_part
from tegakari.indexer.shard import Shard
from tegakari.schemas.config import Config


class Timed:
    """An executor that notes when shards are done."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.times: list[float] = []

    def index(self, settings: WorkerSettings, models: IndexModels, shards: Sequence[Shard]) -> Iterator[Shard]:
        for shard in self._executor.index(settings, models, shards):
            self.times.append(time.perf_counter())
            yield shard
        self.times.append(time.perf_counter())

    def merge(self, merge: LayerMerge, layers: Mapping[int, int]) -> Iterator[int]:
        return self._executor.merge(merge, layers)

    def milliseconds(self) -> float:
        """Time per shard after the first."""
        return 1000 * (self.times[-1] - self.times[0]) / (len(self.times) - 2)


def measured(config: Config, store: Path, executor: Executor) -> float:
    """Milliseconds per shard of an index into an empty store."""
    shutil.rmtree(store, ignore_errors=True)
    timed = Timed(executor)
    index_part(with_store(config, store), executor=timed)
    shutil.rmtree(store)
    return timed.milliseconds()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the rounds and one JSON object."""
    parser = argparse.ArgumentParser(description="Cost of a Ray actor per shard.")
    parser.add_argument("--ray", required=True, help="address of the cluster")
    parser.add_argument("--documents", type=int, default=512)
    parser.add_argument("--shard-documents", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=WORK, help="directory for models and stores")
    options = parser.parse_args(arguments)
    work = options.work.resolve()
    config = make_case(work / f"ray-overhead-{options.documents}", SMALL, options.documents)
    settings = msgspec.structs.replace(config.index, shard_documents=options.shard_documents)
    config = msgspec.structs.replace(config, index=settings)
    rounds = []
    for _ in range(options.rounds):
        here = measured(config, work / "ray-overhead-store", InProcess())
        there = measured(config, work / "ray-overhead-store", RayActors(options.ray, 1))
        rounds.append((here, there))
        print(f"in-process {here:.1f} ms per shard, actor {there:.1f} ms")
    result = {
        "ray_overhead_ms": statistics.median(there - here for here, there in rounds),
        "in_process_ms": statistics.median(here for here, _ in rounds),
        "actor_ms": statistics.median(there for _, there in rounds),
        "shards": options.documents // options.shard_documents,
    }
    sys.stdout.write(json.dumps(rounded(result) | machine()) + "\n")


if __name__ == "__main__":
    main()
