"""Shards in this process, with the models that it has loaded; layers on its threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tegakari.indexer.executors.executor import WorkerSettings, layers_at_once
from tegakari.indexer.index_models import IndexModels
from tegakari.indexer.merged_layer import LayerMerge
from tegakari.indexer.shard import Shard
from tegakari.indexer.write_threads import index_on_threads
from tegakari.store.threads import on_threads


class InProcess:
    """Executor without other processes."""

    def __init__(self, layers: int | None = None) -> None:
        """Start nothing yet.

        Args:
            layers: number of layers that are merged at a time; default: as many as cores and memory allow.
        """
        self._layers = layers

    def index(self, settings: WorkerSettings, models: IndexModels, shards: Sequence[Shard]) -> Iterator[Shard]:
        """As `Executor.index`; shards are yielded in order."""
        return index_on_threads(settings.writer(models.classifier, models.saes), shards)

    def merge(self, merge: LayerMerge, layers: Mapping[int, int]) -> Iterator[int]:
        """As `Executor.merge`: the loops run without the GIL, and threads need no second copy of the program."""
        threads = self._layers or layers_at_once(merge)
        return on_threads(lambda layer: merge.merge(layer, layers[layer]), layers, name="merge-layer", threads=threads)
