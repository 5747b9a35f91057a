"""The n strongest positions of every feature, exact, from a small number of candidates."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tegakari.kernels import Survivors


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


class TopTokens:
    """The n strongest positions of each feature of one layer, and the floor below which no position can enter."""

    def __init__(self, d_sae: int, n: int, floor: np.ndarray | None = None) -> None:
        """Start without positions.

        Args:
            d_sae: features of the layer.
            n: positions per feature.
            floor: float32 [d_sae]; a lower bound of the n-th strongest activation in the whole corpus, from other
                shards. It only saves work: the merged result is the same.
        """
        self._n = n
        self._strongest = no_candidates()
        self._pending: list[Candidates] = []
        self._pending_size = 0
        self.floor = np.zeros(d_sae, np.float32) if floor is None else floor.copy()

    def add(self, survivors: Survivors, documents: np.ndarray, positions: np.ndarray) -> None:
        """Add the survivors of one batch.

        Args:
            survivors: trimmed, on any device. Those below `floor` are dropped.
            documents: int32 [T], document of each row of the batch's residual.
            positions: int32 [T], token index of each row in its document.
        """
        feature, row, activation = (tensor.cpu().numpy() for tensor in survivors)
        keep = activation >= self.floor[feature]  # the batch may have been encoded with an earlier, lower floor
        feature, row, activation = feature[keep], row[keep], activation[keep]
        self._pending.append(Candidates(feature, activation, documents[row], positions[row]))
        self._pending_size += len(feature)
        if self._pending_size > max(len(self._strongest.feature), 65_536):
            self._prune()

    def _prune(self) -> None:
        self._strongest = strongest(concatenate([self._strongest, *self._pending]), self._n)
        self._pending, self._pending_size = [], 0
        last = ranks(self._strongest.feature) == self._n - 1
        feature, activation = self._strongest.feature[last], self._strongest.activation[last]
        self.floor[feature] = np.maximum(self.floor[feature], activation)

    def result(self) -> Candidates:
        """The strongest positions so far, by (feature, activation descending, document, position)."""
        self._prune()
        return self._strongest
