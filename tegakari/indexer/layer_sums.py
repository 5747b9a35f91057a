"""Sums of a range of features over all shards: moments of every label, counts and totals of every feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tegakari.indexer.partial import Partial
from tegakari.indexer.statistics_loops import merge_moments
from tegakari.schemas.config import POOLINGS


class LayerSums(NamedTuple):
    """Sums of F features of a layer over the whole corpus."""

    n: np.ndarray
    """int64 [labels]: documents of each label."""
    mean: np.ndarray
    """float64 [labels, poolings, F]"""
    m2: np.ndarray
    """float64 [labels, poolings, F]"""
    documents_active: np.ndarray
    """int32 [labels, poolings, F]: documents of each label in which each feature is active."""
    active: np.ndarray
    """int64 [F]: positions at which each feature is active."""
    total: np.ndarray
    """float64 [F]: sum of the activations of each feature."""


SUMS_BYTES = len(POOLINGS) * (8 + 8 + 4)
"""Memory per feature and label of the corpus, and per feature and label of the shard whose sums are read."""


def layer_sums(layer: int, start: int, stop: int, partials: Sequence[Partial], labels: int) -> LayerSums:
    """Add up the features of a layer from `start` to `stop`, one shard after the other.

    Args:
        layer: the layer.
        start: first feature.
        stop: the feature after the last.
        partials: in the order of shards, on which the last bits depend.
        labels: number of labels.
    """
    shape = (labels, len(POOLINGS), stop - start)
    n = np.zeros(labels, np.int64)
    mean, m2, documents_active = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int32)
    active, total = np.zeros(stop - start, np.int64), np.zeros(stop - start)
    for partial in partials:
        part = partial.sums(layer, start, stop)
        for (label_id, documents), part_mean, part_m2, part_active in zip(
            partial.summary.labels.items(), part.mean, part.m2, part.documents_active, strict=True
        ):
            merge_moments(
                n[label_id],
                mean[label_id].reshape(-1),
                m2[label_id].reshape(-1),
                documents,
                part_mean.reshape(-1),
                part_m2.reshape(-1),
            )
            n[label_id] += documents
            documents_active[label_id] += part_active
        active += part.active
        total += part.total
    return LayerSums(n, mean, m2, documents_active, active, total)
