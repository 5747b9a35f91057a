"""Features ranked by Cohen's d for a label, read page by page."""

from __future__ import annotations

import numpy as np

from tegakari.schemas.config import Pooling
from tegakari.store.blocks.files import ORDER_FILE, descending_order
from tegakari.store.blocks.mapped import Blocks
from tegakari.store.weak_cache import weakly_cached

_STEP = 1024
"""Places filtered at a time when a filter passes few of them."""

ANY_VARIETY = (0, 2**31 - 1)
"""Range of label variety that every feature is in."""


class Ranking:
    """Places in `descending_order` of Cohen's d for a label; of all layers or of one."""

    def __init__(
        self, blocks: Blocks, label_id: int, pooling: Pooling, layer: int | None, *, stored_order: bool
    ) -> None:
        """Choose the order.

        Args:
            blocks: the run's blocks.
            label_id: number of the label.
            pooling: pooling of the statistics.
            layer: only this layer.
            stored_order: whether `pooling` is the run's: its orders are stored, others are sorted at the first use.
        """
        self._d, self._documents_active, self._mean = _ranked_columns(blocks, label_id, pooling)
        self._variety = blocks.features[f"variety_{pooling}"]
        places = blocks.places.slice_of(layer) if layer is not None else slice(0, len(self._d))
        self._blocks, self._places = blocks, places
        if stored_order:
            self._order = (blocks.order if layer is None else blocks.layer_order)[label_id, places]
        else:
            self._order = _order_of(blocks, label_id, pooling, places.start, places.stop)

    def after(self, place: int | None, n: int, *, min_cohens_d: float | None, variety: tuple[int, int]) -> np.ndarray:
        """The next places of the ranking that pass the filters; int32, up to [n].

        Args:
            place: the place before them; None: start at the top.
            n: number of places.
            min_cohens_d: smallest d that passes; None: any.
            variety: smallest and largest label variety that pass.
        """
        at = 0 if place is None else self._rank_of(place) + 1
        minimum_variety, maximum_variety = variety
        minimum_d = np.float64(-np.inf if min_cohens_d is None else min_cohens_d)
        parts: list[np.ndarray] = []
        missing = n
        while missing > 0 and at < len(self._order):
            places = self._order[at : at + (missing if variety == ANY_VARIETY else _STEP)]
            at += len(places)
            self._check(places)
            d = self._d[places]
            ended = not d[-1] >= minimum_d  # smaller d follow, then undefined ones
            if ended:
                places = places[d >= minimum_d]
            if variety != ANY_VARIETY:
                varieties = self._variety[places]
                places = places[(varieties >= minimum_variety) & (varieties <= maximum_variety)]
            parts.append(places[:missing])
            missing -= len(parts[-1])
            if ended:
                break
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int32), *parts])

    def _check(self, places: np.ndarray) -> None:
        first, last = self._places.start, self._places.stop
        self._blocks.check_numbers(ORDER_FILE, places, last - first, first=first)

    def _rank_of(self, place: int) -> int:
        """Index of a place in the order, by bisection on the key of `descending_order`."""
        key = self._key(place)
        low, high = 0, len(self._order)
        while low < high:
            middle = (low + high) // 2
            self._check(self._order[middle : middle + 1])
            other = int(self._order[middle])
            if np.isnan(self._d[other]) or self._key(other) >= key:
                high = middle
            else:
                low = middle + 1
        return low

    def _key(self, place: int) -> tuple[float, int, float, int]:
        return -self._d[place], -int(self._documents_active[place]), -self._mean[place], place


@weakly_cached(maxsize=64)
def _order_of(blocks: Blocks, label_id: int, pooling: Pooling, start: int, stop: int) -> np.ndarray:
    return start + descending_order(*(column[start:stop] for column in _ranked_columns(blocks, label_id, pooling)))


def _ranked_columns(blocks: Blocks, label_id: int, pooling: Pooling) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cohen's d, active documents and mean of a label, [places] each."""
    statistics = blocks.statistics
    return (
        statistics["d", pooling][label_id],
        blocks.documents_active[pooling][label_id],
        statistics["mean", pooling][label_id],
    )
