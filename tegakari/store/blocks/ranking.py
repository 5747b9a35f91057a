"""Rows of answers put together from the blocks blocks: slices and gathers, no SQL."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tegakari.schemas.config import Pooling
from tegakari.store.blocks.blocks import Blocks, by_descending

if TYPE_CHECKING:
    pass


_STEP = 1024
"""Places looked at together when a filter passes few of them."""


class Ranking:
    """Places by Cohen's d for a label, largest first, ties by place; of all layers or of one."""

    def __init__(self, blocks: Blocks, label_id: int, pooling: Pooling, layer: int | None, *, own: bool) -> None:
        """Choose the order.

        Args:
            blocks: the run's blocks.
            label_id: the label.
            pooling: whose d ranks.
            layer: only this layer.
            own: whether `pooling` is the run's, whose orders are stored; others are sorted when first asked for.
        """
        self._d = blocks.statistics["d", pooling][label_id]
        self._variety = blocks.features[f"variety_{pooling}"]
        where = blocks.places.slice_of(layer) if layer is not None else slice(0, len(self._d))
        if own:
            self._order = (blocks.order if layer is None else blocks.layer_order)[label_id, where]
        else:
            self._order = _sorted_now(blocks, label_id, pooling, where.start, where.stop)

    def after(self, place: int | None, n: int, *, min_d: float | None, variety: tuple[int, int]) -> np.ndarray:
        """The next n places after one of the ranking (None: from the top) that pass the filters; int32, up to [n]."""
        at = 0 if place is None else self._rank_of(place) + 1
        least, most = variety
        unfiltered = (least, most) == (0, 2**31 - 1)
        least_d = np.float64(-np.inf if min_d is None else min_d)
        parts: list[np.ndarray] = []
        wanted = n
        while wanted > 0 and at < len(self._order):
            places = self._order[at : at + (wanted if unfiltered else _STEP)]
            at += len(places)
            d = self._d[places]
            ended = not d[-1] >= least_d  # smaller ones come last, and after them those that are not defined
            if ended:
                places = places[d >= least_d]
            if not unfiltered:
                found = self._variety[places]
                places = places[(found >= least) & (found <= most)]
            parts.append(places[:wanted])
            wanted -= len(parts[-1])
            if ended:
                break
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int32), *parts])

    def _rank_of(self, place: int) -> int:
        """Index of a place in the order, by bisection on (d descending, place)."""
        key = (-self._d[place], place)
        low, high = 0, len(self._order)
        while low < high:
            middle = (low + high) // 2
            other = int(self._order[middle])
            d = self._d[other]
            if np.isnan(d) or (-d, other) >= key:
                high = middle
            else:
                low = middle + 1
        return low


@lru_cache(maxsize=64)
def _sorted_now(blocks: Blocks, label_id: int, pooling: Pooling, start: int, stop: int) -> np.ndarray:
    return start + by_descending(blocks.statistics["d", pooling][label_id, start:stop])
