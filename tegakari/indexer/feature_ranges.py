"""Entries of one layer (candidates, activations or contexts) of all shards, one range of features after the other.

A range has as many features as the memory has room for: of each shard it needs the offsets of its features, and of all
shards together their entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tegakari.indexer.partial import EntryKind, Partial

OFFSET_BYTES = 24
"""Memory per shard and feature: offsets as read, as stacked, and as first entries."""


class FeatureRange(NamedTuple):
    """Entries of the features from `start` to `stop`."""

    start: int
    stop: int
    starts: np.ndarray
    """int64 [shards, stop - start + 1]: first entry of each shard and feature, and the end of each shard's last."""
    columns: list[np.ndarray]
    """parallel arrays, shard after shard."""


def feature_ranges(
    partials: Sequence[Partial], layer: int, d_sae: int, kind: EntryKind, memory: int, feature_bytes: int = 0
) -> Iterator[FeatureRange]:
    """The entries of a layer, each read once.

    Args:
        partials: of all shards.
        layer: the layer.
        d_sae: its features.
        kind: of the entries.
        memory: bytes that merging a range takes at most, unless a single feature needs more.
        feature_bytes: memory per feature beside its entries.
    """
    total = np.zeros(d_sae + 1, np.int64)
    for partial in partials:
        total += partial.offsets(layer, kind)
    needed = total * kind.merge_bytes + np.arange(d_sae + 1) * (len(partials) * OFFSET_BYTES + feature_bytes)
    for start, stop in _ranges(needed, memory):
        offsets = np.stack([partial.offsets(layer, kind, start, stop + 1) for partial in partials])
        bounds = list(zip(partials, offsets[:, 0].tolist(), offsets[:, -1].tolist(), strict=True))
        columns = [
            np.concatenate([partial.column(layer, kind, name, *rows) for partial, *rows in bounds])
            for name in kind.columns
        ]
        sizes = offsets[:, -1] - offsets[:, 0]
        offsets += (np.cumsum(sizes) - sizes - offsets[:, 0])[:, None]
        yield FeatureRange(start, stop, offsets, columns)


def equal_ranges(features: int, at_once: int) -> Iterator[tuple[int, int]]:
    """Ranges of features, of `at_once` each; a multiple of 8 of them, so that bits of a range are whole bytes."""
    step = max(8, at_once - at_once % 8)
    for start in range(0, features, step):
        yield start, min(start + step, features)


def _ranges(needed: np.ndarray, memory: int) -> Iterator[tuple[int, int]]:
    """Ranges of features that need at most `memory`, or of one feature.

    Args:
        needed: int64 [d_sae + 1], memory of all features before each.
        memory: bytes.
    """
    start, d_sae = 0, len(needed) - 1
    while start < d_sae:
        stop = int(np.searchsorted(needed, needed[start] + memory, side="right")) - 1
        stop = min(max(stop, start + 1), d_sae)
        yield start, stop
        start = stop
