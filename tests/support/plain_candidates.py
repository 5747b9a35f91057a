"""The strongest candidates of each feature by a plain sort."""

from __future__ import annotations

import numpy as np

from tegakari.indexer.candidates import Candidates


def strongest_candidates(candidates: Candidates, n: int) -> Candidates:
    """The n strongest of each feature, by (feature, activation descending, document, position)."""
    order = np.lexsort((candidates.position, candidates.document, -candidates.activation, candidates.feature))
    ordered = Candidates(*(array[order] for array in candidates))
    rank = np.arange(len(order)) - np.searchsorted(ordered.feature, ordered.feature)
    return Candidates(*(array[rank < n] for array in ordered))
