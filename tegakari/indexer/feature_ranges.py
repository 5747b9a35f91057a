"""Entries of one layer (candidates or activations) of all shards, one range of features after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tegakari.indexer.partial import EntryKind, Partial

AT_ONCE = 2**23
"""Entries that are in memory at once: about 200 MB while they are ordered."""


class FeatureRange(NamedTuple):
    """Entries of the features from `start` to `stop`."""

    start: int
    stop: int
    starts: np.ndarray
    """int64 [shards, stop - start + 1]: first entry of each shard and feature, and the end of each shard's last."""
    columns: list[np.ndarray]
    """parallel arrays, shard after shard."""


def feature_ranges(
    partials: Sequence[Partial], layer: int, kind: EntryKind, at_once: int = AT_ONCE
) -> Iterator[FeatureRange]:
    """The entries of a layer, each read once.

    Args:
        partials: of all shards.
        layer: the layer.
        kind: of the entries.
        at_once: maximum of entries per range, unless a single feature has more.
    """
    offsets = np.stack([partial.offsets(layer, kind) for partial in partials])
    for start, stop in _ranges(offsets.sum(0), at_once):
        bounds = list(zip(partials, offsets[:, start].tolist(), offsets[:, stop].tolist(), strict=True))
        columns = [
            np.concatenate([partial.column(layer, kind, name, *rows) for partial, *rows in bounds])
            for name in kind.columns
        ]
        sizes = offsets[:, stop] - offsets[:, start]
        starts = offsets[:, start : stop + 1] + (np.cumsum(sizes) - sizes - offsets[:, start])[:, None]
        yield FeatureRange(start, stop, starts, columns)


def _ranges(offsets: np.ndarray, at_once: int) -> Iterator[tuple[int, int]]:
    """Ranges of features with at most `at_once` entries each, or of one feature.

    Args:
        offsets: int64 [d_sae + 1], first entry of each feature.
        at_once: maximum of entries per range.
    """
    start, d_sae = 0, len(offsets) - 1
    while start < d_sae:
        stop = int(np.searchsorted(offsets, offsets[start] + at_once, side="right")) - 1
        stop = min(max(stop, start + 1), d_sae)
        yield start, stop
        start = stop
