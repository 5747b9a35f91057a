"""Which features carry a label beyond chance: the false discovery rate, estimated by permutations.

d alone does not say how likely chance gives it: a feature that is active in two documents reaches d > 1 with ease, one
that is active in half of them never does. The largest d of a feature is therefore compared with that of features that
vary over about as many documents, under permuted labels. The false discovery rate of a set of features is the number
that the same rule selects under permuted labels, mean over permutations, divided by the number that it selects with
the real ones (Tusher, Tibshirani and Chu 2001, PNAS 98, 5116-5121; with p-values pooled over features and all null
hypotheses taken for true, as in Storey and Tibshirani 2003, PNAS 100, 9440-9445).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tegakari.analyses.specificity.best_labels import LayerActivations

STRATA = 10
"""Groups of features of a layer, by the number of documents that they vary over."""
SMALLEST_STRATUM = 20
"""Features; layers with few features have fewer strata."""
TIES = 1e-5
"""Relative difference of two d, stored as float32, up to which they count as equal."""


class Tail(NamedTuple):
    """Features of a layer whose largest d exceeds the threshold, with p-values among features of their stratum."""

    feature: np.ndarray
    """int64 [n]"""
    p: np.ndarray
    """float64 [n]: share of the d under permuted labels that are as large"""
    null_p: np.ndarray
    """float64 [m]: p-values of the features of all permutations whose d exceeds the threshold"""
    permutation: np.ndarray
    """int64 [m]: permutation that each null p-value is of"""


def varying_documents(activations: LayerActivations) -> np.ndarray:
    """Number of documents that the variance of each feature comes from, float64 [features]; 0 if never active.

    `(sum c^2)^2 / sum c^4` with c = activation - mean, over all documents: n / kurtosis. It is k for a feature with
    equal activations in k of many documents, and 1 for one with a single outlier.
    """
    features, n = len(activations.first) - 1, activations.documents
    feature = np.repeat(np.arange(features), np.diff(activations.first))
    activation = activations.activation.astype(np.float64)
    mean = np.bincount(feature, activation, features) / n
    squared = (activation - mean[feature]) ** 2
    silent = n - np.diff(activations.first)
    second = np.bincount(feature, squared, features) + silent * mean**2
    fourth = np.bincount(feature, squared**2, features) + silent * mean**4
    return np.divide(second**2, fourth, out=np.zeros(features), where=fourth > 0)


def tail(features: np.ndarray, varying: np.ndarray, d: np.ndarray, null_d: np.ndarray, threshold: float) -> Tail:
    """Features above the threshold with their p-values.

    Args:
        features: int [F], those that are compared.
        varying: float [F], documents that each varies over.
        d: float32 [F], largest d of each.
        null_d: float32 [permutations, F], the same under permuted labels.
        threshold: of d.
    """
    count = max(1, min(STRATA, len(features) // SMALLEST_STRATUM))
    parts = []
    for stratum in np.array_split(np.argsort(varying, kind="stable"), count):
        null = null_d[:, stratum]
        sorted_null = np.sort(null, axis=None)
        above = stratum[d[stratum] > threshold]
        permutation, place = np.nonzero(null > threshold)
        null_p = _share_as_large(sorted_null, null[permutation, place])
        parts.append(Tail(features[above], _share_as_large(sorted_null, d[above]), null_p, permutation))
    return Tail(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _share_as_large(null: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Share of sorted values that are at least as large as each d, the d itself counted (Phipson and Smyth 2010)."""
    as_large = len(null) - np.searchsorted(null, d * np.float32(1 - TIES), "left")
    return (as_large + 1) / (len(null) + 1)


def q_values(tails: Sequence[Tail], permutations: int) -> list[np.ndarray]:
    """Smallest false discovery rate of a set of features with each feature in it, over all layers; float64, <= 1.

    Args:
        tails: of the layers.
        permutations: number that the null p-values are of.

    Returns:
        per layer, parallel to `Tail.feature`.
    """
    p = np.concatenate([tail.p for tail in tails])
    null_p, permutation = (np.concatenate([tail[field] for tail in tails]) for field in (2, 3))
    limits, place = np.unique(p, return_inverse=True)
    selected = np.searchsorted(np.sort(p), limits, "right")
    counts = np.stack([_up_to(null_p[permutation == number], limits) for number in range(permutations)])
    mean = (counts.sum(0) + 1) / permutations
    false = mean + np.sqrt(np.maximum(counts.var(0), mean))  # the variance of rare events is at least their mean
    rate = np.minimum(false / selected, 1)
    q = np.minimum.accumulate(rate[::-1])[::-1][place]
    return np.split(q, np.cumsum([len(tail.p) for tail in tails])[:-1])


def _up_to(values: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Number of values that are at most each limit."""
    return np.searchsorted(np.sort(values), limits, "right")
