"""A worker that writes the partials of its shards."""

from __future__ import annotations

from pathlib import Path

from tegakari.indexer.partial import partial_exists, write_partial
from tegakari.indexer.shard import Shard
from tegakari.indexer.shared_bounds import SharedBounds
from tegakari.indexer.worker import ShardWork, Worker


class ShardWriter:
    """Indexes shards with a worker and writes their partials; methods may run in several threads at once."""

    def __init__(self, worker: Worker, partials: Path, bounds: Path | None = None) -> None:
        """Take over the bounds of earlier and of other workers.

        Args:
            worker: with the loaded models.
            partials: directory of the partials.
            bounds: file of `SharedBounds`; None: the worker has its own bounds only.
        """
        self._worker = worker
        self._partials = partials
        self._bounds = SharedBounds(bounds, worker) if bounds is not None else None

    def start(self, shard: Shard) -> ShardWork:
        """As `Worker.start`."""
        return self._worker.start(shard)

    def finish(self, work: ShardWork) -> None:
        """Wait for the passes of a shard and write its partial."""
        result = self._worker.finish(work)
        write_partial(
            self._partials,
            work.shard,
            result.positions,
            result.layers,
            result.documents,
            self._worker.special_tokens,
        )
        if self._bounds is not None:
            self._bounds.exchange()

    def write(self, shard: Shard) -> None:
        """Index one shard, unless another worker has written its partial."""
        if not partial_exists(self._partials, shard.key):
            self.finish(self.start(shard))
