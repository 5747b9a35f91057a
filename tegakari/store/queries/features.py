"""Lists that are looked through: the features and documents of a run, and what one of them leads to."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, TypeVar

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
from tegakari.schemas.config import Pooling
from tegakari.schemas.errors import QueryError
from tegakari.store.blocks.blocks import TOP_DOCUMENTS, Blocks
from tegakari.store.queries.cursor import _foreign, _page, read_cursor, write_cursor
from tegakari.store.queries.parameters import (
    Variety,
    check_layer,
    check_limit,
    check_place,
    check_pooling,
    place_of,
    variety_range,
)
from tegakari.store.queries.rows import (
    _best_label,
    feature_document_rows,
    feature_label_rows,
    feature_rows,
    token_rows,
)
from tegakari.store.reader import Run

T = TypeVar("T")

Order = Literal["feature", "density", "max_activation", "variety", "d"]


HISTOGRAM_BINS = 40


def features(
    run: Run,
    *,
    layer: int | None = None,
    token: str | None = None,
    variety: Variety | None = None,
    min_density: float | None = None,
    max_density: float | None = None,
    min_d: float | None = None,
    order: Order = "feature",
    limit: int = 50,
    cursor: str | None = None,
) -> Page[FeatureRow]:
    """Features of a run that pass every filter.

    Args:
        run: the run.
        layer: only of this layer.
        token: only those shown with this token, whatever its case and the spaces around it.
        variety: label variety by the run's pooling.
        min_density: least share of positions on which it is active.
        max_density: largest such share.
        min_d: least Cohen's d for the label of its largest one.
        order: by layer and feature, or by one of the figures, largest first; ties by layer and feature.
        limit: rows of a page.
        cursor: `next` of the page before.

    Raises:
        NotFoundError: no such layer.
        QueryError: a limit out of range, or a filter that is not finite.
        CursorError: the cursor is of another question.
    """
    check_limit(limit)
    for name, value in (("min_density", min_density), ("max_density", max_density), ("min_d", min_d)):
        if value is not None and not math.isfinite(value):
            raise QueryError(f"{value} is no number", field=name, fix="give a finite number")
    blocks, columns = run.blocks, run.blocks.features
    passes = np.ones(len(columns["layer"]), bool)
    if layer is not None:
        check_layer(run, layer)
        passes &= columns["layer"] == layer
    if token is not None:
        passes &= _shown_with(blocks, token)
    if variety is not None:
        least, most = variety_range(variety)
        found = columns[f"variety_{run.manifest.pooling}"]
        passes &= (found >= least) & (found <= most)
    if min_density is not None:
        passes &= columns["density"] >= min_density
    if max_density is not None:
        passes &= columns["density"] <= max_density
    if min_d is not None:
        passes &= _best_label(run)[1] >= np.float64(min_d)
    places = np.flatnonzero(passes) if order == "feature" else _ordered(run, order)
    if order != "feature":
        places = places[passes[places]]
    asked = (layer, token, variety, min_density, max_density, min_d, order)
    question = f"features {run.manifest.fingerprint[:16]} {asked!r}"
    at = 0
    if cursor:
        after = read_cursor(cursor, question, int)
        check_place(run, after)
        (where,) = np.nonzero(places == after)
        if not len(where):
            raise _foreign()
        at = int(where[0]) + 1
    page = places[at : at + limit]
    following = write_cursor(question, int(page[-1])) if at + limit < len(places) else None
    return Page(feature_rows(run, page), following)


def feature_labels(
    run: Run, layer: int, feature: int, *, pooling: Pooling | None = None, limit: int = 50, cursor: str | None = None
) -> Page[FeatureLabel]:
    """Labels by Cohen's d for a feature, largest first, undefined ones last; ties by class.

    Raises:
        NotFoundError: no such layer or feature.
        QueryError: a limit out of range, or no such pooling.
        CursorError: the cursor is of another question.
    """
    check_layer(run, layer)
    place, chosen = place_of(run, layer, feature), check_pooling(run, pooling)
    question = f"feature_labels {run.manifest.fingerprint[:16]} {place} {chosen}"
    return _page(feature_label_rows(run, place, chosen), question, limit, cursor)


def feature_tokens(run: Run, layer: int, feature: int, *, limit: int = 50, cursor: str | None = None) -> Page[TopToken]:
    """Strongest positions of a feature, strongest first, each in its context.

    Raises:
        NotFoundError: no such layer or feature.
        QueryError: a limit out of range.
        CursorError: the cursor is of another question.
    """
    check_layer(run, layer)
    place = place_of(run, layer, feature)
    question = f"feature_tokens {run.manifest.fingerprint[:16]} {place}"
    return _page(token_rows(run, place, run.manifest.top_tokens), question, limit, cursor)


def feature_histogram(run: Run, layer: int, feature: int) -> ActivationHistogram:
    """How a feature's pooled activations are spread over the documents in which it is active.

    Raises:
        NotFoundError: no such layer or feature.
    """
    check_layer(run, layer)
    place_of(run, layer, feature)
    found = run.activations_of(layer, feature).activation
    largest = float(found.max()) if len(found) else 0.0
    counts, edges = np.histogram(found, bins=HISTOGRAM_BINS, range=(0, largest or 1.0))
    return ActivationHistogram(
        layer=layer,
        feature=feature,
        pooling=run.manifest.pooling,
        documents=len(found),
        edges=edges.tolist(),
        counts=counts.tolist(),
    )


def _shown_with(blocks: Blocks, token: str) -> np.ndarray:
    wanted = token.strip().casefold()
    numbers = [number for number, text in enumerate(blocks.token_texts) if text.strip().casefold() == wanted]
    return np.any(np.isin(blocks.shown_tokens, numbers), axis=1)


@lru_cache(maxsize=16)
def _ordered(run: Run, order: Order) -> np.ndarray:
    """Places by a figure, largest first; undefined ones last, ties by place."""
    if order == "d":
        _, values = _best_label(run)
    else:
        values = run.blocks.features[f"variety_{run.manifest.pooling}" if order == "variety" else order]
    falling = -values.astype(np.float64)
    falling[np.isnan(falling)] = np.inf
    return np.argsort(falling, kind="stable")


SHOWN_POSITIONS = 20
"""Strongest positions of a feature that are shown unless another number is asked for."""


def feature(
    run: Run, layer: int, index: int, *, pooling: Pooling | None = None, tokens: int | None = None
) -> FeatureDetail:
    """One feature: statistics, labels by d, strongest positions in context.

    Args:
        run: the run.
        layer: the layer.
        index: the feature.
        pooling: of the statistics; default: the run's.
        tokens: strongest positions shown; default: SHOWN_POSITIONS, or all where the run keeps fewer.

    Raises:
        NotFoundError: no such layer or feature.
        QueryError: unknown pooling, or more tokens than are kept.
    """
    check_layer(run, layer)
    chosen = check_pooling(run, pooling)
    if tokens is None:
        tokens = min(SHOWN_POSITIONS, run.manifest.top_tokens)
    if not 0 <= tokens <= run.manifest.top_tokens:
        raise QueryError(f"{tokens} is not from 0 to {run.manifest.top_tokens}", field="tokens", fix="ask for fewer")
    place = place_of(run, layer, index)
    columns = {name: values[place].item() for name, values in run.blocks.features.items()}
    return FeatureDetail(
        layer=layer,
        feature=index,
        density=columns["density"],
        active_positions=columns["active_positions"],
        mean_activation=columns["mean_activation"],
        max_activation=columns["max_activation"],
        pooling=chosen,
        variety=columns[f"variety_{chosen}"],
        labels=feature_label_rows(run, place, chosen),
        tokens=token_rows(run, place, tokens),
    )


def feature_documents(run: Run, layer: int, index: int, *, limit: int = 20) -> list[TopDocument]:
    """Documents in which a feature is strongest, by the run's pooling; ties by document.

    Raises:
        NotFoundError: no such layer or feature.
        QueryError: not from 1 to TOP_DOCUMENTS; all are in the activation files.
    """
    check_layer(run, layer)
    if not 1 <= limit <= TOP_DOCUMENTS:
        raise QueryError(f"{limit} is not from 1 to {TOP_DOCUMENTS}", field="limit", fix="ask for fewer")
    return feature_document_rows(run, place_of(run, layer, index), limit)
