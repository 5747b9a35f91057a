"""Contexts that explanations are made from, and those that are held out to score them."""

from __future__ import annotations

import numpy as np

STRONGEST_STEP = 3
"""Of the documents of the strongest positions, by rank, every third is held out."""
STRONGEST_CONTEXTS = 10
"""Most strongest contexts of a feature that are held out."""
MIN_STRONGEST = 15
"""Documents of the strongest positions below which none of them is held out: too few would be left to explain."""


def pairs_of(feature: np.ndarray, document: np.ndarray) -> np.ndarray:
    """Number of the pair of feature and document that each context is of, from 0; int64 [C].

    Args:
        feature: int32 [C].
        document: int32 [C].
    """
    return np.unique(feature.astype(np.int64) << 32 | document, return_inverse=True)[1]


def held_out(feature: np.ndarray, quantile: np.ndarray, pair: np.ndarray) -> np.ndarray:
    """Which contexts score explanations: some of the strongest, and the second of each tenth of the activations.

    Of a tenth with one context only, it is that context where the number of the tenth is odd. A feature whose contexts
    would all be held out has none that is.

    Args:
        feature: int32 [C]; contexts are by (feature, quantile, rank), as a run has them.
        quantile: int32 [C]; 0: one of the strongest positions.
        pair: int64 [C], from `pairs_of`.

    Returns:
        bool [C].
    """
    chosen = np.zeros(len(feature), bool)
    chosen[_of_strongest(feature, quantile, pair)] = True
    chosen[_of_tenths(feature, quantile)] = True
    explained = np.zeros(feature.max(initial=-1) + 1, bool)
    explained[feature[explaining(pair, chosen)]] = True
    return chosen & explained[feature]


def explaining(pair: np.ndarray, scoring: np.ndarray) -> np.ndarray:
    """Which contexts explanations are made from: those of documents that score nothing of their feature.

    Args:
        pair: int64 [C], from `pairs_of`.
        scoring: bool [C], from `held_out`.

    Returns:
        bool [C].
    """
    scored = np.zeros(pair.max(initial=-1) + 1, bool)
    scored[pair[scoring]] = True
    return ~scored[pair]


def _of_strongest(feature: np.ndarray, quantile: np.ndarray, pair: np.ndarray) -> np.ndarray:
    """Rows of held-out strongest contexts, one per document."""
    rows = np.flatnonzero(quantile == 0)
    first = np.empty(pair.max(initial=-1) + 1, np.int64)
    first[pair[rows[::-1]]] = rows[::-1]  # of equal pairs, the last assignment stays: that of the smallest rank
    rows = rows[first[pair[rows]] == rows]
    within, size = _within(feature[rows])
    step = within % STRONGEST_STEP == STRONGEST_STEP - 1
    return rows[(size >= MIN_STRONGEST) & step & (within < STRONGEST_STEP * STRONGEST_CONTEXTS)]


def _of_tenths(feature: np.ndarray, quantile: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(quantile > 0)
    within, size = _within(feature[rows].astype(np.int64) << 4 | quantile[rows])
    return rows[(within == 1) | ((size == 1) & (quantile[rows] % 2 == 1))]


def _within(group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of each row within its group of equal neighbours, and the group's size."""
    first = np.flatnonzero(np.diff(group, prepend=-1))
    size = np.diff(first, append=len(group))
    return np.arange(len(group)) - np.repeat(first, size), np.repeat(size, size)
