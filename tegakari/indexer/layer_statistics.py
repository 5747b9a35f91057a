"""Statistics of labels in a range of features: those of every label, and what the tables need of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tegakari.indexer.cohens_d import LabelStatistics, best_labels, label_statistics, specific_and_shared
from tegakari.indexer.layer_sums import SUMS_BYTES, LayerSums
from tegakari.indexer.moments import Moments
from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.store.blocks.files import DOCUMENTS_ACTIVE, STATISTICS, label_column
from tegakari.store.queries.runs import HIGH_D_CUTOFFS


class MergeSettings(NamedTuple):
    """Settings of the run that determine the content of its tables."""

    pooling: Pooling
    """of which the best label, and the features of a label, are counted."""
    variety_threshold: float
    """of Cohen's d, above which a feature counts for a label."""
    top_tokens: int
    contexts: bool = False
    """whether the run has contexts and probes, for which the partials have entries."""

    @property
    def cutoffs(self) -> list[float]:
        """Cut-offs of Cohen's d whose label varieties are stored, ascending."""
        return sorted({*HIGH_D_CUTOFFS, self.variety_threshold})


class LayerStatistics(NamedTuple):
    """What the tables need of the statistics of features, of a layer or of a range of its features."""

    documents: Moments[np.ndarray]
    """over all documents, float64 [poolings, d_sae]."""
    variety: np.ndarray
    """int32 [poolings, cutoffs, d_sae]: number of labels with d above each cut-off of the settings."""
    best_label: np.ndarray
    """int32 [d_sae]: label with the largest d in the run's pooling, -1 if no d is defined."""
    best_d: np.ndarray
    """float64 [d_sae]"""
    best_documents_active: np.ndarray
    """int32 [d_sae]: documents of the best label in which the feature is active."""
    specific: np.ndarray
    """int64 [labels]: features whose d, in the run's pooling, is above the threshold for this label alone."""
    shared: np.ndarray
    """int64 [labels]: features whose d is above the threshold for this label and others."""
    active: np.ndarray
    """int64 [d_sae]: positions at which each feature is active."""
    total: np.ndarray
    """float64 [d_sae]: sum of the activations of each feature."""


LABEL_BYTES = SUMS_BYTES + 8 + len(POOLINGS) * (3 * 4 + 2 * 4)
"""Memory per feature and label: sums, exact d, and the stored statistics, of which counts are converted."""


def stored_types(documents: int) -> dict[str, np.dtype]:
    """Type of each stored statistic of labels, by the name of its column; `documents` of the run."""
    counts = np.min_scalar_type(documents)
    return {
        label_column(name, pooling): np.dtype(np.float32) if name in STATISTICS else counts
        for pooling in POOLINGS
        for name in (*STATISTICS, DOCUMENTS_ACTIVE)
    }


def range_statistics(sums: LayerSums, settings: MergeSettings) -> tuple[LayerStatistics, dict[str, np.ndarray]]:
    """Compute the statistics of a range of features.

    Args:
        sums: of the range.
        settings: of the run.

    Returns:
        what the tables need, and the stored statistics of every label, [labels, F] by name of the column.
    """
    cutoffs = settings.cutoffs
    shape = len(sums.n), len(sums.active)
    moments, varieties = [], []
    stored: dict[str, np.ndarray] = {}
    exact = np.empty(shape)  # of the run's pooling: thresholds are compared in float64
    for index, pooling in enumerate(POOLINGS):
        is_default = pooling == settings.pooling
        mean, sd, d = (np.empty(shape, np.float32) for _ in STATISTICS)
        whole, variety = label_statistics(
            sums.n,
            sums.mean[:, index],
            sums.m2[:, index],
            alive=sums.active > 0,
            cutoffs=cutoffs,
            statistics=LabelStatistics(mean, sd, exact if is_default else d),
        )
        if is_default:
            d[:] = exact
        columns = mean, sd, d, sums.documents_active[:, index]
        for name, column in zip((*STATISTICS, DOCUMENTS_ACTIVE), columns, strict=True):
            stored[label_column(name, pooling)] = column
        moments.append(whole)
        varieties.append(variety)
    default = POOLINGS.index(settings.pooling)
    documents_active = sums.documents_active[:, default]
    best = best_labels(exact, documents_active, sums.mean[:, default])
    features = np.arange(len(best))
    threshold = cutoffs.index(settings.variety_threshold)
    specific, shared = specific_and_shared(exact, varieties[default][threshold], settings.variety_threshold)
    statistics = LayerStatistics(
        documents=Moments(moments[0].n, *(np.stack(columns) for columns in list(zip(*moments, strict=True))[1:])),
        variety=np.stack(varieties),
        best_label=best,
        best_d=exact[best, features],
        best_documents_active=documents_active[best, features],
        specific=specific,
        shared=shared,
        active=sums.active,
        total=sums.total,
    )
    return statistics, stored


def joined(parts: Sequence[LayerStatistics]) -> LayerStatistics:
    """Statistics of a layer from those of its ranges, in order."""
    first, *_ = parts

    def columns(name: str) -> Iterator[np.ndarray]:
        return (getattr(part, name) for part in parts)

    whole = Moments(
        first.documents.n,
        np.concatenate([part.documents.mean for part in parts], axis=-1),
        np.concatenate([part.documents.m2 for part in parts], axis=-1),
    )
    per_feature = ("variety", "best_label", "best_d", "best_documents_active", "active", "total")
    return LayerStatistics(
        documents=whole,
        specific=sum(columns("specific"), np.zeros_like(first.specific)),
        shared=sum(columns("shared"), np.zeros_like(first.shared)),
        **{name: np.concatenate(list(columns(name)), axis=-1) for name in per_feature},
    )
