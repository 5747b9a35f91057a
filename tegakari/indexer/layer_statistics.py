"""Statistics of the labels of one layer: written to the blocks, and what the tables need of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tegakari.indexer.cohens_d import LabelStatistics, best_labels, label_statistics, specific_and_shared
from tegakari.indexer.layer_sums import LayerSums
from tegakari.indexer.moments import Moments
from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.store.blocks.writer import BlocksWriter
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
    """What the tables need of the statistics of labels."""

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


def write_statistics(blocks: BlocksWriter, layer: int, sums: LayerSums, settings: MergeSettings) -> LayerStatistics:
    """Compute the statistics of a layer and write them to the blocks.

    Args:
        blocks: of the run.
        layer: the layer.
        sums: of the layer.
        settings: of the run.
    """
    cutoffs = settings.cutoffs
    moments, varieties = [], []
    d = np.empty((len(sums.n), len(sums.active)))  # of the run's pooling: thresholds are compared in float64
    for index, pooling in enumerate(POOLINGS):
        stored = blocks.label_statistics(layer, pooling)
        exact = d if pooling == settings.pooling else stored.d
        whole, variety = label_statistics(
            sums.n,
            sums.mean[:, index],
            sums.m2[:, index],
            alive=sums.active > 0,
            cutoffs=cutoffs,
            statistics=LabelStatistics(stored.mean, stored.sd, exact),
        )
        stored.documents_active[:] = sums.documents_active[:, index]
        if pooling == settings.pooling:
            stored.d[:] = d
        moments.append(whole)
        varieties.append(variety)
    default = POOLINGS.index(settings.pooling)
    documents_active = sums.documents_active[:, default]
    best = best_labels(d, documents_active, sums.mean[:, default])
    features = np.arange(len(best))
    threshold = cutoffs.index(settings.variety_threshold)
    specific, shared = specific_and_shared(d, varieties[default][threshold], settings.variety_threshold)
    return LayerStatistics(
        documents=Moments(moments[0].n, *(np.stack(columns) for columns in list(zip(*moments, strict=True))[1:])),
        variety=np.stack(varieties),
        best_label=best,
        best_d=d[best, features],
        best_documents_active=documents_active[best, features],
        specific=specific,
        shared=shared,
    )
