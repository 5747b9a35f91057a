"""Activations of one layer, ordered over all shards, and the strongest documents of each feature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tegakari.indexer.merge_loops import merge_activations
from tegakari.indexer.partial import Partial
from tegakari.indexer.strongest import bits_of
from tegakari.store.blocks.activations import Activations

AT_ONCE = 2**23
"""Activations that are ordered at once: about 200 MB."""


def ordered_activations(
    layer: int, partials: Sequence[Partial], documents: int, heaps: np.ndarray, at_once: int = AT_ONCE
) -> Iterator[Activations]:
    """The activations of a layer by (feature, document), one range of features after the other.

    Args:
        layer: the layer.
        partials: of all shards.
        documents: number of documents of the run.
        heaps: uint64 [d_sae, n]; receives the strongest documents of each feature.
        at_once: maximum of activations per range, unless a single feature has more.
    """
    offsets = np.stack([partial.activation_offsets(layer) for partial in partials])
    for start, stop in _ranges(offsets.sum(0), at_once):
        parts = [
            partial.activations(layer, of_partial[start], of_partial[stop])
            for partial, of_partial in zip(partials, offsets, strict=True)
        ]
        document, activation = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        sizes = offsets[:, stop] - offsets[:, start]
        starts = offsets[:, start : stop + 1] + (np.cumsum(sizes) - sizes - offsets[:, start])[:, None]
        merged = tuple(np.empty(len(document), kind) for kind in (np.int32, np.int32, np.uint32))
        merge_activations(starts, document, bits_of(activation), documents, merged, heaps[start:stop])
        feature, document, bits = merged
        feature += start
        yield Activations(feature, document, bits.view(np.float32))


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
