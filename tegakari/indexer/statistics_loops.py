"""Loops over the moments of labels, compiled by numba without the GIL, so that layers are merged on threads."""

from __future__ import annotations

import numpy as np

from tegakari.kernels.cpu.loops import compiled

_CHUNK = 512
"""Features at a time: the moments of a hundred labels stay in the second-level cache."""


@compiled
def merge_moments(n, mean, m2, part_n, part_mean, part_m2):
    """Merge the moments of a part, float64 [M], into those of n values; the formula of `moments.merge`.

    Moments of no values are zeros, so that the formula gives those of the other side to the last bit.
    """
    total = max(n + part_n, 1)
    share, weight = part_n / total, n * part_n / total
    for j in range(len(mean)):
        delta = part_mean[j] - mean[j]
        mean[j] += delta * share
        m2[j] = m2[j] + part_m2[j] + delta * delta * weight


@compiled
def fill_d(n, mean, m2, rest_n, rest_mean, rest_m2, d):
    """Fill `d`, float64 [M], with Cohen's d of a label against the rest; the formula of `cohens_d`."""
    degrees = np.float64(max(n + rest_n - 2, 1))
    defined = n >= 2 and rest_n > 0
    for j in range(len(d)):
        difference = mean[j] - rest_mean[j]
        pooled = np.sqrt(np.divide(m2[j] + rest_m2[j], degrees))
        ratio = np.divide(difference, pooled)
        degenerate = 0.0 if difference == 0 else np.nan
        d[j] = (ratio if pooled > 0 else degenerate) if defined else np.nan


@compiled
def fill_statistics(n, moments, alive, cutoffs, statistics, whole, variety):
    """Fill the statistics of every label of one pooling, a range of features at a time.

    Args:
        n: int64 [labels], documents of each label.
        moments: mean and M2, float64 [labels, d_sae]; 0 where n is 0.
        alive: bool [d_sae]; the other features get NaN as mean, sd and d.
        cutoffs: float64 [cutoffs], of d.
        statistics: mean, sd and d, [labels, d_sae], to be filled.
        whole: mean and M2 of all documents, float64 [d_sae], to be filled.
        variety: int32 [cutoffs, d_sae], zeros; gets the number of labels with d above each cut-off.
    """
    means, m2s = moments
    stored_mean, stored_sd, stored_d = statistics
    labels, features = means.shape
    n_after = np.zeros(labels + 1, np.int64)
    for label in range(labels - 1, -1, -1):
        n_after[label] = n_after[label + 1] + n[label]
    after_mean, after_m2 = np.zeros((labels + 1, _CHUNK)), np.zeros((labels + 1, _CHUNK))
    rest_mean, rest_m2, d = np.empty(_CHUNK), np.empty(_CHUNK), np.empty(_CHUNK)
    for start in range(0, features, _CHUNK):
        stop = min(start + _CHUNK, features)
        width = stop - start
        for label in range(labels - 1, 0, -1):
            after_mean[label, :width] = means[label, start:stop]
            after_m2[label, :width] = m2s[label, start:stop]
            merge_moments(
                n[label],
                after_mean[label, :width],
                after_m2[label, :width],
                n_after[label + 1],
                after_mean[label + 1, :width],
                after_m2[label + 1, :width],
            )
        n_before = 0
        before_mean, before_m2 = whole[0][start:stop], whole[1][start:stop]
        before_mean[:] = 0.0
        before_m2[:] = 0.0
        for label in range(labels):
            mean, m2 = means[label, start:stop], m2s[label, start:stop]
            rest_mean[:width] = before_mean
            rest_m2[:width] = before_m2
            after = (n_after[label + 1], after_mean[label + 1, :width], after_m2[label + 1, :width])
            merge_moments(n_before, rest_mean[:width], rest_m2[:width], after[0], after[1], after[2])
            fill_d(n[label], mean, m2, n_before + after[0], rest_mean[:width], rest_m2[:width], d[:width])
            for j in range(width):
                is_alive = alive[start + j]
                stored_mean[label, start + j] = mean[j] if is_alive and n[label] > 0 else np.nan
                variance = np.divide(m2[j], np.float64(max(n[label] - 1, 1)))
                stored_sd[label, start + j] = np.sqrt(variance) if is_alive and n[label] > 1 else np.nan
                stored_d[label, start + j] = d[j] if is_alive else np.nan
            for cutoff in range(len(cutoffs)):
                for j in range(width):
                    variety[cutoff, start + j] += np.int32(d[j] > cutoffs[cutoff])
            merge_moments(n_before, before_mean, before_m2, n[label], mean, m2)
            n_before += n[label]


@compiled
def fill_best_labels(d, documents_active, mean, best):
    """Fill `best`, int32 [d_sae], with the label of the largest d of each feature, -1 if no d is defined.

    Among equal d, as float32, the label with more active documents, then the larger mean, then the first.

    Args:
        d: float64 [labels, d_sae].
        documents_active: int32 [labels, d_sae].
        mean: float64 [labels, d_sae].
        best: int32 [d_sae], to be filled.
    """
    best[:] = -1
    for label in range(len(d)):
        for feature in range(len(best)):
            value, other = np.float32(d[label, feature]), best[feature]
            if np.isnan(value):
                continue
            if other >= 0:
                largest = np.float32(d[other, feature])
                more = documents_active[label, feature] - documents_active[other, feature]
                if value < largest or (value == largest and more < 0):
                    continue
                if value == largest and more == 0 and mean[label, feature] <= mean[other, feature]:
                    continue
            best[feature] = label


@compiled
def count_features(d, threshold, variety, specific, shared):
    """Count, for each label, the features whose d is above a threshold for this label alone, and for others as well.

    Args:
        d: float64 [labels, d_sae].
        threshold: of d.
        variety: int32 [d_sae], labels of each feature with d above the threshold.
        specific: int64 [labels], zeros.
        shared: int64 [labels], zeros.
    """
    for label in range(len(d)):
        for feature in range(len(variety)):
            if d[label, feature] > threshold:
                if variety[feature] == 1:
                    specific[label] += 1
                else:
                    shared[label] += 1
