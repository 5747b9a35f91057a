"""Index a configuration on a Ray cluster, and write a line to a file whenever documents are done.

    python -m tests.support.ray_driver CONFIG ADDRESS WORKERS LINES [--wait-seconds S] [--bucket URL] [FAULTS]

A line is the clock in seconds. `--poison` ends each worker that starts the shard of a document, `--poison-layer` each
that merges a layer; `--slow` makes each shard last so much longer, so that a fault can be placed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tegakari.indexer.bucket_index import index_into_bucket
from tegakari.indexer.executors import WorkerSettings
from tegakari.indexer.executors.ray_actors import RayActors
from tegakari.indexer.index_models import IndexModels
from tegakari.indexer.merged_layer import LayerMerge
from tegakari.indexer.pipeline import index
from tegakari.indexer.shard import Shard
from tegakari.indexer.shard_writer import ShardWriter
from tegakari.models.classifier import Classifier
from tegakari.schemas.config import load_config
from tegakari.schemas.errors import TegakariError
from tegakari.schemas.progress import NoProgress
from tegakari.store.objects.bucket import Bucket


class Faults(NamedTuple):
    """What happens to workers."""

    poison: str
    slow: float
    poison_layer: int | None


class FaultyWriter:
    """A writer whose process dies or is slow."""

    def __init__(self, writer: ShardWriter, faults: Faults) -> None:
        self._writer = writer
        self._faults = faults

    def write(self, shard: Shard) -> None:
        if any(document.id == self._faults.poison for document in shard.documents):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self._faults.slow)
        self._writer.write(shard)


class FaultySettings:
    """Settings of workers with faults."""

    def __init__(self, settings: WorkerSettings, faults: Faults) -> None:
        self._settings = settings
        self._faults = faults
        self.config, self.limits = settings.config, settings.limits
        self.partials, self.bounds = settings.partials, settings.bounds

    def _replace(self, **changes: Any) -> FaultySettings:
        return FaultySettings(self._settings._replace(**changes), self._faults)

    def load(self) -> tuple[FaultyWriter, Classifier]:
        writer, classifier = self._settings.load()
        return FaultyWriter(writer, self._faults), classifier


class FaultyExecutor:
    """Ray actors with faults."""

    def __init__(self, actors: RayActors, faults: Faults) -> None:
        self._actors = actors
        self._faults = faults

    def index(self, settings: WorkerSettings, models: IndexModels, shards: Sequence[Shard]) -> Iterator[Shard]:
        return self._actors.index(FaultySettings(settings, self._faults), models, shards)  # type: ignore[arg-type]

    def merge(self, merge: LayerMerge, layers: Mapping[int, int]) -> Iterator[int]:
        poison = self._faults.poison_layer

        class FaultyMerge(LayerMerge):
            """Ends its process in one layer."""

            def merge(self, layer: int, d_sae: int) -> None:
                if layer == poison:
                    os.kill(os.getpid(), signal.SIGKILL)
                super().merge(layer, d_sae)

        return self._actors.merge(FaultyMerge(*merge), layers)


class Lines(NoProgress):
    """Writes the clock whenever documents are done."""

    def __init__(self, file: Path) -> None:
        self._stream = file.open("a", buffering=1)
        self._indexing = False

    def stage(self, name: str, total: int | None = None, *, done: int = 0) -> None:
        self._indexing = name == "indexing documents"

    def advance(self, steps: int = 1) -> None:
        if self._indexing:
            self._stream.write(f"{time.monotonic()}\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("address")
    parser.add_argument("workers", type=int)
    parser.add_argument("lines", type=Path)
    parser.add_argument("--wait-seconds", type=float, default=120)
    parser.add_argument("--bucket")
    parser.add_argument("--poison", default="")
    parser.add_argument("--poison-layer", type=int)
    parser.add_argument("--slow", type=float, default=0)
    options = parser.parse_args()
    actors = RayActors(options.address, options.workers, wait_seconds=options.wait_seconds, bucket=options.bucket)
    executor = FaultyExecutor(actors, Faults(options.poison, options.slow, options.poison_layer))
    config, lines = load_config(options.config), Lines(options.lines)
    try:
        if options.bucket is None:
            index(config, lines, executor=executor)
        else:
            index_into_bucket(config, Bucket(options.bucket), lines, executor=executor)
    except TegakariError as error:
        sys.exit(f"ERROR {error}")


if __name__ == "__main__":
    main()
