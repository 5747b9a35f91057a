"""The label of the largest Cohen's d of every feature of a layer, under many assignments of labels to documents.

The definition of d is that of `tegakari.analyses.label_d`. A layer of the study has 6 million activations; a matrix of
d over labels, features and assignments would not fit in memory, so that one pass over the activations of a feature
fills the sums of a few assignments, and only what the counts need leaves the loop.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tegakari.analyses.label_d import ROUNDING
from tegakari.analyses.specificity.loops import fill_best_labels
from tegakari.store import Run

ASSIGNMENTS_PER_PASS = 20
"""Their sums of one feature stay in the first-level cache, and their labels of all documents in the second."""


class LayerActivations(NamedTuple):
    """Non-zero pooled activations of one layer by feature, as a run stores them."""

    documents: int
    """number of documents in the run"""
    first: np.ndarray
    """int64 [features + 1]: row of the first activation of each feature, then the number of rows"""
    document: np.ndarray
    """int32 [N]"""
    activation: np.ndarray
    """float32 [N]"""


class BestLabels(NamedTuple):
    """Per assignment of labels and feature."""

    d: np.ndarray
    """float32 [assignments, features]: largest d; 0 if never active, -inf if no d is defined"""
    label: np.ndarray
    """int32 [assignments, features]: label of that d; the first of equal ones"""
    variety: np.ndarray
    """int32 [assignments, features]: labels with d above the threshold"""
    active: np.ndarray
    """int32 [assignments, features]: documents of the best label with an activation; 0 where variety is 0"""

    def part(self, assignments: slice) -> BestLabels:
        """Those of some assignments."""
        return BestLabels(*(array[assignments] for array in self))


def layer_activations(run: Run, layer: int) -> LayerActivations:
    """Pooled activations of a layer, by the run's pooling.

    Raises:
        NotFoundError: the run was deleted meanwhile.
        StoreError: the file is damaged.
    """
    parts = list(run.layer_activations(layer))
    feature, document, activation = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    width = run.manifest.saes.widths[run.manifest.saes.layers.index(layer)]
    first = np.searchsorted(feature, np.arange(width + 1))
    return LayerActivations(run.manifest.corpus.documents, first, document, activation)


def best_labels(
    activations: LayerActivations, assignments: np.ndarray, labels: int, threshold: float, features: np.ndarray
) -> BestLabels:
    """Best label and label variety of features, for each assignment of labels to documents.

    Args:
        activations: of one layer.
        assignments: int [assignments, documents], label of each document; -1 leaves a document out.
        labels: number of labels.
        threshold: of d, for the variety.
        features: int [features], those to compare.
    """
    shape = len(assignments), len(features)
    best = BestLabels(
        np.empty(shape, np.float32), np.empty(shape, np.int32), np.empty(shape, np.int32), np.empty(shape, np.int32)
    )
    for start in range(0, len(assignments), ASSIGNMENTS_PER_PASS):
        part = slice(start, start + ASSIGNMENTS_PER_PASS)
        documents = [np.bincount(row[row >= 0], minlength=labels) for row in assignments[part]]
        by_document = np.where(assignments[part] < 0, labels, assignments[part]).T
        fill_best_labels(
            activations.first,
            activations.document,
            activations.activation,
            features.astype(np.int64),
            np.ascontiguousarray(by_document, np.int16),
            np.array(documents, np.float64),
            threshold,
            ROUNDING,
            *(array[part] for array in best),
        )
    return best
