"""Queries about features."""

from __future__ import annotations

import numpy as np

from tegakari.schemas.api import (
    ActivationHistogram,
    FeatureDetail,
    FeatureLabel,
    FeatureRow,
    Page,
    TopDocument,
    TopToken,
)
from tegakari.schemas.filters import FeatureOrder, Variety
from tegakari.store.blocks.files import SHOWN_TOKENS_FILE, TOP_DOCUMENTS, descending_order
from tegakari.store.blocks.mapped import Blocks
from tegakari.store.queries.cursor import cursor_error, list_name, page_of, read_number, write_cursor
from tegakari.store.queries.onset import feature_onset, with_onset
from tegakari.store.queries.parameters import (
    check_finite,
    check_layer,
    check_limit,
    check_pooling,
    check_range,
    feature_place,
    variety_range,
)
from tegakari.store.queries.rows import (
    best_labels,
    feature_document_rows,
    feature_label_rows,
    feature_rows,
    token_rows,
)
from tegakari.store.reader import Run
from tegakari.store.weak_cache import weakly_cached

HISTOGRAM_BINS = 40

DETAIL_POSITIONS = 20
"""Default number of strongest positions in the details of a feature."""


def features(
    run: Run,
    *,
    layer: int | None = None,
    token: str | None = None,
    variety: Variety | None = None,
    min_density: float | None = None,
    max_density: float | None = None,
    min_cohens_d: float | None = None,
    order: FeatureOrder = "feature",
    onset: bool = False,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[FeatureRow]:
    """Features of a run that pass every filter.

    Args:
        run: the run.
        layer: only features of this layer.
        token: only features with this top token; case and surrounding spaces are ignored.
        variety: only features with this label variety, by the run's pooling.
        min_density: smallest share of positions on which the feature is active.
        max_density: largest such share.
        min_cohens_d: smallest Cohen's d for the feature's best label.
        order: by layer and feature, or by a figure, largest first; ties by layer and feature; equal d first by active
            documents of the best label, then by mean.
        onset: fill in `onset_tokens` and `lift_tokens`.
        limit: rows per page.
        cursor: `next` of the page before.

    Raises:
        NotFoundError: no such layer.
        QueryError: the limit is out of range, or a filter is not finite.
        CursorError: the cursor does not come from a page of this list.
    """
    check_limit(limit)
    for name, value in (("min_density", min_density), ("max_density", max_density), ("min_cohens_d", min_cohens_d)):
        check_finite(name, value)
    columns = run.blocks.features
    passes = np.ones(len(columns["layer"]), bool)
    if layer is not None:
        check_layer(run, layer)
        passes &= columns["layer"] == layer
    if token is not None:
        passes &= _has_top_token(run.blocks, token)
    if variety is not None:
        minimum_variety, maximum_variety = variety_range(variety)
        varieties = columns[f"variety_{run.manifest.pooling}"]
        passes &= (varieties >= minimum_variety) & (varieties <= maximum_variety)
    if min_density is not None:
        passes &= columns["density"] >= min_density
    if max_density is not None:
        passes &= columns["density"] <= max_density
    if min_cohens_d is not None:
        passes &= best_labels(run).d >= np.float64(min_cohens_d)
    places = np.flatnonzero(passes) if order == "feature" else _ordered(run, order)
    if order != "feature":
        places = places[passes[places]]
    list_ = list_name(run, "features", layer, token, variety, min_density, max_density, min_cohens_d, order)
    start = 0
    last = read_number(cursor, list_, len(passes))
    if last is not None:
        (index,) = np.nonzero(places == last)
        if not len(index):
            raise cursor_error()
        start = int(index[0]) + 1
    page = places[start : start + limit]
    following = write_cursor(list_, int(page[-1])) if start + limit < len(places) else None
    rows = feature_rows(run, page)
    return Page(with_onset(run, rows, page) if onset else rows, following)


def feature_labels(
    run: Run, layer: int, feature: int, *, pooling: str | None = None, limit: int = 50, cursor: str | None = None
) -> Page[FeatureLabel]:
    """Labels by Cohen's d for a feature, largest first, undefined ones last; ties by active documents, mean, class.

    Raises:
        NotFoundError: no such layer or feature.
        QueryError: no such pooling, or the limit is out of range.
        CursorError: the cursor does not come from a page of this list.
    """
    place, pooling = feature_place(run, layer, feature), check_pooling(run, pooling)
    list_ = list_name(run, "feature_labels", place, pooling)
    return page_of(feature_label_rows(run, place, pooling), list_, limit, cursor)


def feature_tokens(run: Run, layer: int, feature: int, *, limit: int = 50, cursor: str | None = None) -> Page[TopToken]:
    """Strongest positions of a feature, strongest first, each in its context.

    Raises:
        NotFoundError: no such layer or feature.
        QueryError: the limit is out of range.
        CursorError: the cursor does not come from a page of this list.
    """
    place = feature_place(run, layer, feature)
    list_ = list_name(run, "feature_tokens", place)
    return page_of(token_rows(run, place, run.manifest.top_tokens), list_, limit, cursor)


def feature_histogram(run: Run, layer: int, feature: int) -> ActivationHistogram:
    """Histogram of a feature's pooled activations over the documents in which it is active.

    Raises:
        NotFoundError: no such layer or feature.
    """
    feature_place(run, layer, feature)
    activation = run.activations_of(layer, feature).activation
    largest = float(activation.max()) if len(activation) else 0.0
    counts, edges = np.histogram(activation, bins=HISTOGRAM_BINS, range=(0, largest or 1.0))
    return ActivationHistogram(
        layer=layer,
        feature=feature,
        pooling=run.manifest.pooling,
        documents=len(activation),
        edges=edges.tolist(),
        counts=counts.tolist(),
    )


def feature(
    run: Run,
    layer: int,
    index: int,
    *,
    pooling: str | None = None,
    tokens: int | None = None,
    onset: bool = False,
) -> FeatureDetail:
    """One feature: statistics, labels by d, strongest positions in context.

    Args:
        run: the run.
        layer: its layer.
        index: its number in the layer.
        pooling: pooling of the statistics; default: the run's.
        tokens: number of strongest positions; default: DETAIL_POSITIONS, or all if the run has fewer.
        onset: fill in `onset`.

    Raises:
        NotFoundError: no such layer or feature.
        QueryError: no such pooling, or more tokens than the run has.
    """
    place, pooling = feature_place(run, layer, index), check_pooling(run, pooling)
    if tokens is None:
        tokens = min(DETAIL_POSITIONS, run.manifest.top_tokens)
    check_range("tokens", tokens, 0, run.manifest.top_tokens)
    columns = {name: values[place].item() for name, values in run.blocks.features.items()}
    return FeatureDetail(
        layer=layer,
        feature=index,
        density=columns["density"],
        active_positions=columns["active_positions"],
        mean_activation=columns["mean_activation"],
        max_activation=columns["max_activation"],
        pooling=pooling,
        variety=columns[f"variety_{pooling}"],
        labels=feature_label_rows(run, place, pooling),
        tokens=token_rows(run, place, tokens),
        onset=feature_onset(run, place) if onset else None,
    )


def feature_documents(run: Run, layer: int, index: int, *, limit: int = 20) -> list[TopDocument]:
    """Documents with the largest activations of a feature, by the run's pooling; ties by document.

    Raises:
        NotFoundError: no such layer or feature.
        QueryError: the limit is not from 1 to TOP_DOCUMENTS; the activation files have all documents.
    """
    place = feature_place(run, layer, index)
    check_range("limit", limit, 1, TOP_DOCUMENTS)
    return feature_document_rows(run, place, limit)


def _has_top_token(blocks: Blocks, token: str) -> np.ndarray:
    """Whether each place has a top token, ignoring case and surrounding spaces; bool [places]."""
    token = token.strip().casefold()
    numbers = [number for number, text in enumerate(blocks.token_texts) if text.strip().casefold() == token]
    blocks.check_numbers(SHOWN_TOKENS_FILE, blocks.shown_tokens, len(blocks.token_texts) + 1, first=-1)
    return np.any(np.isin(blocks.shown_tokens, numbers), axis=1)


@weakly_cached(maxsize=16)
def _ordered(run: Run, order: FeatureOrder) -> np.ndarray:
    """Places by a figure, largest first; undefined ones last; ties by place, of d as in `descending_order`."""
    if order == "cohens_d":
        best, pooling = best_labels(run), run.manifest.pooling
        mean = run.blocks.statistics["mean", pooling][best.label, np.arange(len(best.label))]
        return descending_order(best.d, best.documents_active, mean)
    values = run.blocks.features[f"variety_{run.manifest.pooling}" if order == "variety" else order]
    keys = -values.astype(np.float64)
    keys[np.isnan(keys)] = np.inf
    return np.argsort(keys, kind="stable")
