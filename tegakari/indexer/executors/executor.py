"""Protocol of executors, and what they tell their workers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from tegakari.indexer.index_models import IndexModels, load_models
from tegakari.indexer.merged_layer import LayerMerge
from tegakari.indexer.norm_limits import with_limits
from tegakari.indexer.shard import Shard
from tegakari.indexer.shard_writer import ShardWriter
from tegakari.indexer.worker import make_worker
from tegakari.models.attention import choose_attention
from tegakari.models.classifier import Classifier
from tegakari.models.memory import free_bytes
from tegakari.models.sae import Sae
from tegakari.models.tokens import Tokenized
from tegakari.schemas.config import Config


class WorkerSettings(NamedTuple):
    """What a worker needs to know; sent to other processes and nodes."""

    config: Config
    sample: Sequence[Tokenized]
    """documents on which a worker compares attentions, as of `choose_attention`."""
    limits: Mapping[int, float | None]
    """of norms, by layer; None: no residual is an outlier."""
    contexts: bool
    """as of `Worker`."""
    partials: Path
    """directory of the partials, which exists."""
    bounds: Path | None
    """file of `SharedBounds`; None: the worker has its own bounds only."""

    def writer(self, classifier: Classifier, saes: Mapping[int, Sae]) -> ShardWriter:
        """A worker with these models, whose SAEs have their limits."""
        worker = make_worker(self.config, classifier, saes, contexts=self.contexts)
        return ShardWriter(worker, self.partials, self.bounds)

    def load(self) -> tuple[ShardWriter, Classifier]:
        """A worker with models of its own, and its classifier."""
        classifier, saes = load_models(self.config)
        classifier = choose_attention(classifier, self.sample)
        return self.writer(classifier, with_limits(saes, self.limits)), classifier


class Executor(Protocol):
    """Computes shards and merges layers: in this process, in others, or on other machines.

    The tables of the run are the same: a partial does not depend on the worker, but for candidates that are dropped,
    and a merged layer depends on the partials alone.
    """

    def index(self, settings: WorkerSettings, models: IndexModels, shards: Sequence[Shard]) -> Iterator[Shard]:
        """Index shards and yield each when it is done; after the last one, all partials are written.

        Args:
            settings: for workers elsewhere, which load the models themselves.
            models: loaded in this process.
            shards: without a partial, in any number.

        Raises:
            TegakariError: of the models or a shard, as `Worker.index`.
            StoreError: workers died, or there are none.
        """
        ...

    def merge(self, merge: LayerMerge, layers: Mapping[int, int]) -> Iterator[int]:
        """Merge layers and yield each when its files are written.

        Args:
            merge: what the layers share.
            layers: features of each.

        Raises:
            TegakariError, OSError: of a layer, as `LayerMerge.merge`.
            StoreError: workers died, or there are none.
        """
        ...


def layers_at_once(merge: LayerMerge) -> int:
    """Layers to merge at a time on this machine: one per core, in at most half of the free memory."""
    return max(1, min(os.cpu_count() or 1, free_bytes(torch.device("cpu")) // 2 // merge.memory))
