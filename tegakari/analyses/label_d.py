"""Cohen's d of labels over any documents of a run, from the pooled activations that the run stores.

The index computes d once, over all documents and with their own labels. Holdouts, permutations and jackknives need it
over parts of the documents, or with other labels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tegakari.store import Run

ROUNDING = 1e-12
"""Share of a sum of squares below which a sum of squared deviations counts as 0."""


class PooledActivations(NamedTuple):
    """Non-zero pooled activations of one layer, by feature and document; a run stores them rounded to 8 bits."""

    documents: int
    """number of documents in the run"""
    features: int
    """number of features in the layer"""
    document: np.ndarray
    """int64 [N]"""
    feature: np.ndarray
    """int64 [N]"""
    activation: np.ndarray
    """float64 [N]"""


def pooled_activations(run: Run, layer: int) -> PooledActivations:
    """Pooled activations of a layer, by the run's pooling.

    Args:
        run: published.
        layer: of the run.

    Raises:
        NotFoundError: the run was deleted meanwhile.
        StoreError: the file is damaged.
    """
    parts = list(run.layer_activations(layer))
    columns = ((part.document, part.feature, part.activation) for part in parts)
    document, feature, activation = (np.concatenate(arrays) for arrays in zip(*columns, strict=True))
    return PooledActivations(
        run.manifest.corpus.documents,
        run.manifest.saes.widths[run.manifest.saes.layers.index(layer)],
        document.astype(np.int64),
        feature.astype(np.int64),
        activation.astype(np.float64),
    )


def label_d(pooled: PooledActivations, label: np.ndarray, labels: int) -> np.ndarray:
    """Cohen's d of every feature for every label against all other documents with a label.

    The definition is that of `tegakari.indexer.cohens_d`. Its numerator and its pooled variance follow from the sums of
    each label and the sum of squares of all documents: `M2_c + M2_r = sum a^2 - n_c m_c^2 - n_r m_r^2`.

    Args:
        pooled: of one layer.
        label: int [documents], label of each document; -1 leaves a document out.
        labels: number of labels.

    Returns:
        float64 [labels, features]; NaN for a label with fewer than 2 documents or without others, and where neither
        side has variance but their means differ; 0 for a feature that is not active in any of the documents.
    """
    kept = label[pooled.document] >= 0
    document, feature, activation = pooled.document[kept], pooled.feature[kept], pooled.activation[kept]
    places = label[document].astype(np.int64) * pooled.features + feature
    sums = np.bincount(places, activation, labels * pooled.features).reshape(labels, pooled.features)
    squares = np.bincount(feature, activation**2, pooled.features)
    n = np.bincount(label[label >= 0], minlength=labels).astype(np.float64)[:, None]
    n_rest = n.sum() - n
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, mean_rest = sums / n, (sums.sum(0) - sums) / n_rest
        m2 = squares - n * mean**2 - n_rest * mean_rest**2
        m2[m2 <= ROUNDING * squares] = 0  # what is left of equal activations after the subtraction
        difference = mean - mean_rest
        d = difference / np.sqrt(m2 / (n + n_rest - 2))
        d = np.where(m2 > 0, d, np.where(difference == 0, 0.0, np.nan))
    d[(n < 2)[:, 0] | (n_rest < 1)[:, 0]] = np.nan
    return d
