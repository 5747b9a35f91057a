"""Cohen's d of every label against all others, from merged moments; label variety."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tegakari.indexer.moments import Moments, merge


class LabelStatistics(NamedTuple):
    """Statistics of each label against the union of all others; float64 [labels, ...], NaN where undefined."""

    mean: np.ndarray
    sd: np.ndarray
    """ddof 1; NaN for a label with fewer than 2 documents."""
    d: np.ndarray
    """Cohen's d; NaN for a label with fewer than 2 documents, without other labels, and where neither side has variance
    but their means differ."""


def label_statistics(labels: Sequence[Moments[np.ndarray]]) -> LabelStatistics:
    """Cohen's d of every label against the union of all others.

    `d = (m_c - m_r) / s_p` with `s_p^2 = (M2_c + M2_r) / (n_c + n_r - 2)`: the pooled standard deviation with ddof 1
    (Cohen 1988, section 2.2), written with the sums of squares.

    Args:
        labels: moments of each label, all of one shape. A label without documents has n = 0.
    """
    rests = _rests(labels)
    shape = labels[0].mean.shape
    mean, sd, d = (np.full((len(labels), *shape), np.nan) for _ in range(3))
    for index, (label, rest) in enumerate(zip(labels, rests, strict=True)):
        if label.n:
            mean[index] = label.mean
        if label.n < 2:
            continue
        sd[index] = np.sqrt(label.m2 / (label.n - 1))
        if rest.n:
            d[index] = _cohens_d(label, rest)
    return LabelStatistics(mean, sd, d)


def _cohens_d(label: Moments[np.ndarray], rest: Moments[np.ndarray]) -> np.ndarray:
    difference = label.mean - rest.mean
    pooled = np.sqrt((label.m2 + rest.m2) / (label.n + rest.n - 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        d = difference / pooled
    return np.where(pooled > 0, d, np.where(difference == 0, 0.0, np.nan))


def label_variety(statistics: LabelStatistics, threshold: float) -> np.ndarray:
    """Number of labels with d above the threshold, int32 [poolings, d_sae]; an undefined d does not count.

    Args:
        statistics: with d [labels, poolings, d_sae].
        threshold: of Cohen's d.
    """
    return (np.nan_to_num(statistics.d, nan=-np.inf) > threshold).sum(0).astype(np.int32)


def best_labels(d: np.ndarray, documents_active: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Label with the largest d of each feature, int64 [d_sae]; 0 if no d is defined.

    Among equal d, as float32, the label with more documents in which the feature is active, then the larger mean, then
    the first.

    Args:
        d: float64 [labels, d_sae].
        documents_active: int [labels, d_sae].
        mean: float64 [labels, d_sae].
    """
    best = ~np.isnan(d)
    for figure in (d.astype(np.float32), documents_active, mean):
        values = np.where(best, figure, -np.inf)
        best &= values == values.max(0)
    return best.argmax(0)


def _rests(labels: Sequence[Moments[np.ndarray]]) -> list[Moments[np.ndarray]]:
    """For each label the merge of all others: the labels before it, merged with the labels after it."""
    empty = Moments(0, np.zeros_like(labels[0].mean), np.zeros_like(labels[0].m2))
    after = [empty]
    for label in reversed(labels[1:]):
        after.append(merge(label, after[-1]))
    rests, before = [], empty
    for label, following in zip(labels, reversed(after), strict=True):
        rests.append(merge(before, following))
        before = merge(before, label)
    return rests
