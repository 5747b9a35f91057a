"""The n strongest positions of every feature, exact, from a small number of candidates."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Candidates(NamedTuple):
    """Positions that can be among the strongest of their feature; parallel arrays."""

    feature: np.ndarray
    """int32."""
    activation: np.ndarray
    """float32."""
    document: np.ndarray
    """int32."""
    position: np.ndarray
    """int32, token index in the document."""


def no_candidates() -> Candidates:
    return Candidates(*(np.empty(0, kind) for kind in (np.int32, np.float32, np.int32, np.int32)))


def strongest(candidates: Candidates, n: int) -> Candidates:
    """The n strongest positions of each feature, by (feature, activation descending, document, position)."""
    # The bits of positive floats have the order of the floats: feature and activation sort as one integer.
    descending = 0x7FFF_FFFF - candidates.activation.view(np.int32).astype(np.int64)
    keys = candidates.feature.astype(np.int64) << 31 | descending
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    tied = np.flatnonzero(_equal_to_a_neighbour(keys))
    rows = order[tied]
    order[tied] = rows[np.lexsort((candidates.position[rows], candidates.document[rows], keys[tied]))]
    ordered = Candidates(*(array[order] for array in candidates))
    keep = ranks(ordered.feature) < n
    return Candidates(*(array[keep] for array in ordered))


def _equal_to_a_neighbour(ascending: np.ndarray) -> np.ndarray:
    same = ascending[1:] == ascending[:-1]
    return np.r_[same, False] | np.r_[False, same] if len(ascending) else same


def ranks(feature: np.ndarray) -> np.ndarray:
    """Rank of each entry among the entries of its feature, from 0; `feature` is sorted."""
    if not len(feature):
        return np.empty(0, np.int64)
    starts = np.flatnonzero(np.r_[True, feature[1:] != feature[:-1]])
    return np.arange(len(feature)) - np.repeat(starts, np.diff(np.r_[starts, len(feature)]))


def concatenate(parts: list[Candidates]) -> Candidates:
    return Candidates(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True))) if parts else no_candidates()
