"""Shards in this process, with the models that it has loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tegakari.indexer.executors.executor import WorkerSettings
from tegakari.indexer.index_models import IndexModels
from tegakari.indexer.shard import Shard
from tegakari.indexer.write_threads import index_on_threads


class InProcess:
    """Executor without other processes."""

    def index(self, settings: WorkerSettings, models: IndexModels, shards: Sequence[Shard]) -> Iterator[Shard]:
        """As `Executor.index`; shards are yielded in order."""
        return index_on_threads(settings.writer(models.classifier, models.saes), shards)
