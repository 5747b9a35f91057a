"""Contexts that explanations are made from, and those that are held out to score them."""

from __future__ import annotations

import numpy as np

STRONGEST_STEP = 3
"""Of the documents of the strongest positions, by rank, every third is held out."""
STRONGEST_CONTEXTS = 10
"""Most strongest contexts of a feature that are held out."""
MIN_STRONGEST = 15
"""Documents of the strongest positions below which none of them is held out: too few would be left to explain."""


def held_out(feature: np.ndarray, quantile: np.ndarray, rank: np.ndarray, document: np.ndarray) -> np.ndarray:
    """Which contexts score explanations: some of the strongest, and the second of each tenth of the activations.

    Of a tenth with one context only, it is that context where the number of the tenth is odd. A feature whose contexts
    would all be held out has none that is.

    Args:
        feature: int32 [C].
        quantile: int32 [C]; 0: one of the strongest positions.
        rank: int32 [C], within the quantile.
        document: int32 [C].

    Returns:
        bool [C].
    """
    chosen = np.zeros(len(feature), bool)
    chosen[_of_strongest(feature, quantile, rank, document)] = True
    chosen[_of_tenths(feature, quantile, rank)] = True
    explained = np.unique(feature[explaining(feature, document, chosen)])
    return chosen & np.isin(feature, explained)


def explaining(feature: np.ndarray, document: np.ndarray, scoring: np.ndarray) -> np.ndarray:
    """Which contexts explanations are made from: those of documents that score nothing of their feature.

    Args:
        feature: int32 [C].
        document: int32 [C].
        scoring: bool [C], from `held_out`.

    Returns:
        bool [C].
    """
    pair = feature.astype(np.int64) << 32 | document
    return ~np.isin(pair, pair[scoring])


def _of_strongest(feature: np.ndarray, quantile: np.ndarray, rank: np.ndarray, document: np.ndarray) -> np.ndarray:
    """Rows of held-out strongest contexts, one per document."""
    rows = np.flatnonzero(quantile == 0)
    rows = rows[np.lexsort((rank[rows], document[rows], feature[rows]))]
    pair = feature[rows].astype(np.int64) << 32 | document[rows]
    rows = rows[np.diff(pair, prepend=-1) != 0]
    rows = rows[np.lexsort((rank[rows], feature[rows]))]
    within, size = _within(feature[rows])
    step = within % STRONGEST_STEP == STRONGEST_STEP - 1
    return rows[(size >= MIN_STRONGEST) & step & (within < STRONGEST_STEP * STRONGEST_CONTEXTS)]


def _of_tenths(feature: np.ndarray, quantile: np.ndarray, rank: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(quantile > 0)
    rows = rows[np.lexsort((rank[rows], quantile[rows], feature[rows]))]
    within, size = _within(feature[rows].astype(np.int64) << 4 | quantile[rows])
    return rows[(within == 1) | ((size == 1) & (quantile[rows] % 2 == 1))]


def _within(group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of each row within its group of equal neighbours, and the group's size."""
    first = np.flatnonzero(np.diff(group, prepend=-1))
    size = np.diff(first, append=len(group))
    return np.arange(len(group)) - np.repeat(first, size), np.repeat(size, size)
