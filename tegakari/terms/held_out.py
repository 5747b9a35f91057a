"""Contexts that explanations are made from, and those that are held out to score them."""

from __future__ import annotations

import numpy as np


def held_out(feature: np.ndarray, quantile: np.ndarray, rank: np.ndarray, document: np.ndarray) -> np.ndarray:
    """Which contexts score explanations: the second of each tenth of the activations.

    Of a tenth with one context only, it is that context where the number of the tenth is even. A feature whose
    contexts would all be held out has none that is.

    Args:
        feature: int32 [C].
        quantile: int32 [C]; 0: one of the strongest positions, which are never held out.
        rank: int32 [C], within the quantile.
        document: int32 [C].

    Returns:
        bool [C].
    """
    order = np.lexsort((document, rank, quantile, feature))
    group = feature[order].astype(np.int64) * 11 + quantile[order]
    first = np.flatnonzero(np.diff(group, prepend=-1))
    size = np.diff(first, append=len(group))
    within = np.arange(len(group)) - np.repeat(first, size)
    size = np.repeat(size, size)
    chosen = np.empty(len(group), bool)
    chosen[order] = (quantile[order] > 0) & ((within == 1) | ((size == 1) & (quantile[order] % 2 == 0)))
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
