"""Cohen's d of every label against all others, from merged moments; label variety.

`d = (m_c - m_r) / s_p` with `s_p^2 = (M2_c + M2_r) / (n_c + n_r - 2)`: the pooled standard deviation with ddof 1 (Cohen
1988, section 2.2), written with the sums of squares. The moments of the rest are those of the labels before a label
merged with those of the labels after it: nothing is subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tegakari.indexer.moments import Moments
from tegakari.indexer.statistics_loops import count_features, fill_best_labels, fill_statistics


class LabelStatistics(NamedTuple):
    """Statistics of each label and feature in one pooling; [labels, d_sae], NaN where undefined."""

    mean: np.ndarray
    sd: np.ndarray
    """ddof 1; NaN for a label with fewer than 2 documents."""
    d: np.ndarray
    """Cohen's d against the union of all other labels; NaN for a label with fewer than 2 documents, without other
    labels, and where neither side has variance but their means differ."""


def label_statistics(
    n: np.ndarray,
    mean: np.ndarray,
    m2: np.ndarray,
    *,
    alive: np.ndarray,
    cutoffs: Sequence[float],
    statistics: LabelStatistics,
) -> tuple[Moments[np.ndarray], np.ndarray]:
    """Compute the statistics of every label, and write them to given arrays.

    Args:
        n: int64 [labels], documents of each label.
        mean: float64 [labels, d_sae]; 0 for a label without documents, as M2.
        m2: float64 [labels, d_sae].
        alive: bool [d_sae]: features that are ever active. The others get NaN.
        cutoffs: of Cohen's d.
        statistics: float32 or float64; receives the statistics.

    Returns:
        moments of all documents, float64 [d_sae], and the label variety: the number of labels whose d is above each
        cut-off, int32 [cutoffs, d_sae]. An undefined d does not count.
    """
    whole = np.empty(mean.shape[1]), np.empty(mean.shape[1])
    variety = np.zeros((len(cutoffs), mean.shape[1]), np.int32)
    fill_statistics(n, (mean, m2), alive, np.array(cutoffs, np.float64), tuple(statistics), whole, variety)
    return Moments(int(n.sum()), *whole), variety


def best_labels(d: np.ndarray, documents_active: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Label with the largest d of each feature, int32 [d_sae]; -1 if no d is defined.

    Among equal d, as float32, the label with more documents in which the feature is active, then the larger mean, then
    the first.

    Args:
        d: float64 [labels, d_sae].
        documents_active: int32 [labels, d_sae].
        mean: float64 [labels, d_sae].
    """
    best = np.empty(d.shape[1], np.int32)
    fill_best_labels(d, documents_active, mean, best)
    return best


def specific_and_shared(d: np.ndarray, variety: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Number of features with d above a threshold for each label alone, and for others as well; int64 [labels].

    Args:
        d: float64 [labels, d_sae].
        variety: int32 [d_sae], number of labels with d above the threshold.
        threshold: of d.
    """
    specific, shared = np.zeros(len(d), np.int64), np.zeros(len(d), np.int64)
    count_features(d, threshold, variety, specific, shared)
    return specific, shared
