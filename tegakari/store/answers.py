"""Rows of answers put together from the hot blocks: slices and gathers, no SQL."""

from __future__ import annotations

from functools import lru_cache
from math import isnan
from typing import TYPE_CHECKING

import numpy as np

from tegakari.schemas.api import FeatureLabel, LabelFeature, TopDocument, TopToken
from tegakari.schemas.config import Pooling
from tegakari.store.hot import Hot, by_descending

if TYPE_CHECKING:
    from tegakari.store.reader import Run

CONTEXT_CHARACTERS = 40
"""Text shown on either side of a top token."""

EXCERPT_CHARACTERS = 80
"""Text shown of a document in a list."""

_STEP = 1024
"""Places looked at together when a filter passes few of them."""


class Ranking:
    """Places by Cohen's d for a label, largest first, ties by place; of all layers or of one."""

    def __init__(self, hot: Hot, label_id: int, pooling: Pooling, layer: int | None, *, own: bool) -> None:
        """Choose the order.

        Args:
            hot: the run's blocks.
            label_id: the label.
            pooling: whose d ranks.
            layer: only this layer.
            own: whether `pooling` is the run's, whose orders are stored; others are sorted when first asked for.
        """
        self._d = hot.statistics["d", pooling][label_id]
        self._variety = hot.features[f"variety_{pooling}"]
        where = hot.places.slice_of(layer) if layer is not None else slice(0, len(self._d))
        if own:
            self._order = (hot.order if layer is None else hot.layer_order)[label_id, where]
        else:
            self._order = _sorted_now(hot, label_id, pooling, where.start, where.stop)

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
def _sorted_now(hot: Hot, label_id: int, pooling: Pooling, start: int, stop: int) -> np.ndarray:
    return start + by_descending(hot.statistics["d", pooling][label_id, start:stop])


def label_features(hot: Hot, label_id: int, pooling: Pooling, places: np.ndarray) -> list[LabelFeature]:
    """Features as one label sees them, in the order of `places`."""
    columns, places = hot.features, places.astype(np.intp)  # an index of that type costs a quarter
    return [
        LabelFeature(
            layer=layer,
            feature=feature,
            d=d,
            mean=mean,
            sd=sd,
            variety=variety,
            density=density,
            max_activation=maximum,
            top_tokens=shown,
        )
        for d, mean, sd, layer, feature, variety, density, maximum, shown in zip(
            *(hot.statistics[statistic, pooling][label_id][places].tolist() for statistic in ("d", "mean", "sd")),
            *(
                columns[name][places].tolist()
                for name in ("layer", "feature", f"variety_{pooling}", "density", "max_activation")
            ),
            hot.shown_texts(places),
            strict=True,
        )
    ]


def feature_labels(run: Run, place: int, pooling: Pooling) -> list[FeatureLabel]:
    """Labels as one feature sees them, by d, largest first, undefined last; none for a feature never active."""
    if not run.hot.features["active_positions"][place]:
        return []
    d, mean, sd = (run.hot.statistics[statistic, pooling][:, place] for statistic in ("d", "mean", "sd"))
    order = by_descending(d)
    names, documents = run.labels, run.label_documents
    return [
        FeatureLabel(
            label=names[label],
            d=_or_none(d_),
            mean=_or_none(mean_),
            sd=_or_none(sd_),
            documents=documents[label],
        )
        for label, d_, mean_, sd_ in zip(
            order.tolist(), d[order].tolist(), mean[order].tolist(), sd[order].tolist(), strict=True
        )
    ]


def _or_none(value: float) -> float | None:
    return None if isnan(value) else value


def tokens_in_context(run: Run, place: int, n: int) -> list[TopToken]:
    """The n strongest positions of a feature, each in a window of its document's text."""
    top, documents = run.hot.top_positions, run.hot.documents
    number = int(np.count_nonzero(top.document[place, :n] >= 0))
    activation, document, position = (column[place, :number] for column in top)
    token = documents.first_token[document] + position
    answer = []
    for rank, (activation_, document_, position_, token_id, start, end, label) in enumerate(
        zip(
            activation.tolist(),
            document.tolist(),
            position.tolist(),
            documents.token_ids[token].tolist(),
            documents.token_starts[token].tolist(),
            documents.token_ends[token].tolist(),
            documents.label_id[document].tolist(),
            strict=True,
        ),
        start=1,
    ):
        text = documents.text[document_].as_py()
        answer.append(
            TopToken(
                rank=rank,
                activation=activation_,
                document=documents.id[document_].as_py(),
                label=run.labels[label],
                position=position_,
                token_id=token_id,
                token=text[start:end],
                before=text[max(0, start - CONTEXT_CHARACTERS) : start],
                after=text[end : end + CONTEXT_CHARACTERS],
            )
        )
    return answer


def feature_documents(run: Run, place: int, n: int) -> list[TopDocument]:
    """The n documents in which a feature is strongest, up to TOP_DOCUMENTS."""
    top, documents = run.hot.top_documents, run.hot.documents
    number = int(np.count_nonzero(top.member[place, :n] >= 0))
    document = top.member[place, :number]
    return [
        TopDocument(
            rank=rank,
            activation=activation,
            document=documents.id[number].as_py(),
            label=run.labels[label],
            predicted=run.labels[predicted],
            text=documents.text[number].as_py()[:EXCERPT_CHARACTERS],
        )
        for rank, (activation, number, label, predicted) in enumerate(
            zip(
                top.activation[place, : len(document)].tolist(),
                document.tolist(),
                documents.label_id[document].tolist(),
                documents.predicted_id[document].tolist(),
                strict=True,
            ),
            start=1,
        )
    ]
