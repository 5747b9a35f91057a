"""The worker of a Ray actor: loads the models, then indexes shards into the place of partials."""

from __future__ import annotations

import os
import sys
import time
from typing import NamedTuple

import structlog

from tegakari.indexer.executors.executor import WorkerSettings
from tegakari.indexer.executors.partial_places import PartialPlace, PartialWriter
from tegakari.indexer.shard import Shard
from tegakari.store.versions import recorded_versions


class Kind(NamedTuple):
    """What tables depend on beside their recipe's files; workers that differ do not index one run."""

    version: str
    """of tegakari"""
    device: str
    dtype: str


class Readiness(NamedTuple):
    """A worker that has loaded its models."""

    node: str
    """IP address"""
    process: int
    seconds: float
    """time of loading"""
    kind: Kind


class RayWorker:
    """Runs in a process of its own; its methods run in several threads at once."""

    def __init__(self) -> None:
        """Log to stderr, which Ray brings to the driver's: its stdout has the result of the command."""
        structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
        self._writer: PartialWriter
        self._readiness: Readiness | None = None

    def load(self, settings: WorkerSettings, place: PartialPlace) -> Readiness:
        """Load the models, unless they are loaded.

        Args:
            settings: of the index.
            place: of the partials.

        Raises:
            TegakariError: as `PartialPlace.opened`.
        """
        if self._readiness is not None:
            return self._readiness
        import ray  # pyright: ignore[reportMissingImports]

        start, node = time.perf_counter(), ray.util.get_node_ip_address()
        self._writer, classifier = place.opened(settings, node)
        seconds = time.perf_counter() - start
        kind = Kind(
            recorded_versions()["tegakari"], classifier.device.type, str(classifier.dtype).removeprefix("torch.")
        )
        self._readiness = Readiness(node, os.getpid(), seconds, kind)
        return self._readiness

    def write(self, shard: Shard) -> None:
        """As `PartialWriter.write`."""
        self._writer.write(shard)
