"""Lists that are looked through: the features and documents of a run, and what one of them leads to."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, TypeVar

import numpy as np
import pyarrow.compute as pc

from tegakari.schemas.api import (
    ActivationHistogram,
    DocumentDetail,
    DocumentFeature,
    DocumentRow,
    FeatureLabel,
    FeatureRow,
    Page,
    TopToken,
)
from tegakari.schemas.config import Pooling
from tegakari.schemas.errors import NotFoundError
from tegakari.store.answers import EXCERPT_CHARACTERS, feature_labels, tokens_in_context
from tegakari.store.cursor import CursorError, read_cursor, write_cursor
from tegakari.store.hot import TOP_FEATURES, Hot
from tegakari.store.queries import (
    QueryError,
    Variety,
    check_layer,
    check_limit,
    check_place,
    check_pooling,
    place_of,
    variety_range,
)
from tegakari.store.reader import Run

T = TypeVar("T")

Order = Literal["feature", "density", "max_activation", "variety", "d"]

SHOWN_FEATURES = 5
"""Strongest features of a document shown of each layer unless another number is asked for."""

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
    hot, columns = run.hot, run.hot.features
    passes = np.ones(len(columns["layer"]), bool)
    if layer is not None:
        check_layer(run, layer)
        passes &= columns["layer"] == layer
    if token is not None:
        passes &= _shown_with(hot, token)
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


def labels_of_feature(
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
    question = f"labels_of_feature {run.manifest.fingerprint[:16]} {place} {chosen}"
    return _page(feature_labels(run, place, chosen), question, limit, cursor)


def tokens_of_feature(
    run: Run, layer: int, feature: int, *, limit: int = 50, cursor: str | None = None
) -> Page[TopToken]:
    """Strongest positions of a feature, strongest first, each in its context.

    Raises:
        NotFoundError: no such layer or feature.
        QueryError: a limit out of range.
        CursorError: the cursor is of another question.
    """
    check_layer(run, layer)
    place = place_of(run, layer, feature)
    question = f"tokens_of_feature {run.manifest.fingerprint[:16]} {place}"
    return _page(tokens_in_context(run, place, run.manifest.top_tokens), question, limit, cursor)


def histogram(run: Run, layer: int, feature: int) -> ActivationHistogram:
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


def documents(
    run: Run,
    *,
    label: str | None = None,
    predicted: str | None = None,
    correct: bool | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[DocumentRow]:
    """Documents of a run by id.

    Args:
        run: the run.
        label: only those with this label.
        predicted: only those that the classifier gives this label.
        correct: only those that it gives their own label (or another one).
        limit: rows of a page.
        cursor: `next` of the page before.

    Raises:
        NotFoundError: no such label.
        QueryError: a limit out of range.
        CursorError: the cursor is of another question.
    """
    check_limit(limit)
    known = run.hot.documents
    passes = np.ones(len(known.label_id), bool)
    if label is not None:
        passes &= known.label_id == run.label_id(label)
    if predicted is not None:
        passes &= known.predicted_id == run.label_id(predicted)
    if correct is not None:
        passes &= (known.label_id == known.predicted_id) == correct
    question = f"documents {run.manifest.fingerprint[:16]} {label!r} {predicted!r} {correct}"
    numbers = np.flatnonzero(passes)
    if cursor:
        numbers = numbers[np.searchsorted(numbers, _number(cursor, question, len(passes)), side="right") :]
    page = numbers[:limit].tolist()
    following = write_cursor(question, page[-1]) if len(numbers) > limit else None
    return Page([document_row(run, number) for number in page], following)


def document(run: Run, id_: str, *, layer: int | None = None, features: int = SHOWN_FEATURES) -> DocumentDetail:
    """One document: its text, what the classifier said of it, and its strongest features.

    Args:
        run: the run.
        id_: its id in the corpus.
        layer: features of this layer alone.
        features: strongest features shown of each layer, up to TOP_FEATURES.

    Raises:
        NotFoundError: no such document or layer.
        QueryError: too many features.
    """
    number = document_number(run, id_)
    if not 0 <= features <= TOP_FEATURES:
        raise QueryError(f"{features} is not from 0 to {TOP_FEATURES}", field="features", fix="ask for fewer")
    if layer is not None:
        check_layer(run, layer)
    (row,) = run.rows(
        "SELECT split, label_logit, predicted_logit, tokens, truncated, text FROM documents WHERE document = $number",
        {"number": number},
    )
    known = run.hot.documents
    label, predicted = (run.labels[ids[number]] for ids in (known.label_id, known.predicted_id))
    layers = run.manifest.saes.layers if layer is None else [layer]
    shown = [found for each in layers for found in _document_features(run, number, each, features)]
    return DocumentDetail(
        document=id_, label=label, predicted=predicted, correct=label == predicted, features=shown, **row
    )


def features_of_document(
    run: Run, id_: str, *, layer: int | None = None, limit: int = 50, cursor: str | None = None
) -> Page[DocumentFeature]:
    """The TOP_FEATURES strongest features of a document in each layer, by layer, strongest first.

    Raises:
        NotFoundError: no such document or layer.
        QueryError: a limit out of range.
        CursorError: the cursor is of another question.
    """
    number = document_number(run, id_)
    if layer is not None:
        check_layer(run, layer)
    layers = run.manifest.saes.layers if layer is None else [layer]
    found = [row for each in layers for row in _document_features(run, number, each, TOP_FEATURES)]
    return _page(found, f"features_of_document {run.manifest.fingerprint[:16]} {number} {layer}", limit, cursor)


def document_row(run: Run, number: int) -> DocumentRow:
    """A document in a list, by its number."""
    known = run.hot.documents
    own, predicted = int(known.label_id[number]), int(known.predicted_id[number])
    return DocumentRow(
        document=known.id[number].as_py(),
        label=run.labels[own],
        predicted=run.labels[predicted],
        correct=own == predicted,
        tokens=int(known.first_token[number + 1] - known.first_token[number]),
        text=known.text[number].as_py()[:EXCERPT_CHARACTERS],
    )


def document_number(run: Run, id_: str) -> int:
    """Number of a document.

    Raises:
        NotFoundError: the run has no document of that id.
    """
    number: int = pc.index(run.hot.documents.id, id_).as_py()
    if number < 0:
        raise NotFoundError(
            f"run {run.name!r} has no document {id_!r}", field="document", fix="ids are those of the corpus"
        )
    return number


def _document_features(run: Run, number: int, layer: int, n: int) -> list[DocumentFeature]:
    hot = run.hot
    at, first = run.manifest.saes.layers.index(layer), hot.places.slice_of(layer).start
    features, activations = hot.top_features.member[at, number, :n], hot.top_features.activation[at, number, :n]
    features = features[features >= 0]
    places = first + features
    return [
        DocumentFeature(
            layer=layer,
            feature=feature,
            rank=rank,
            activation=activation,
            variety=variety,
            top_tokens=[hot.token_texts[token] for token in shown if token >= 0],
        )
        for rank, (feature, activation, variety, shown) in enumerate(
            zip(
                features.tolist(),
                activations[: len(features)].tolist(),
                hot.features[f"variety_{run.manifest.pooling}"][places].tolist(),
                hot.shown_tokens[places].tolist(),
                strict=True,
            ),
            start=1,
        )
    ]


def feature_rows(run: Run, places: np.ndarray) -> list[FeatureRow]:
    """Features in a list, by their places among those of all layers."""
    hot, texts = run.hot, run.hot.token_texts
    names = ("layer", "feature", "density", "active_positions", "mean_activation", "max_activation")
    columns = [hot.features[name][places].tolist() for name in names]
    variety = hot.features[f"variety_{run.manifest.pooling}"][places].tolist()
    best, d = (values[places].tolist() for values in _best_label(run))
    return [
        FeatureRow(
            **dict(zip(names, values, strict=True)),
            variety=carried,
            best_label=run.labels[label] if label >= 0 else None,
            best_d=best_d if label >= 0 else None,
            top_tokens=[texts[token] for token in shown if token >= 0],
        )
        for *values, carried, label, best_d, shown in zip(
            *columns, variety, best, d, hot.shown_tokens[places].tolist(), strict=True
        )
    ]


def _shown_with(hot: Hot, token: str) -> np.ndarray:
    wanted = token.strip().casefold()
    numbers = [number for number, text in enumerate(hot.token_texts) if text.strip().casefold() == wanted]
    return np.any(np.isin(hot.shown_tokens, numbers), axis=1)


@lru_cache(maxsize=8)
def _best_label(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Label of largest d of each place (int32, -1 = none) and that d (float32, NaN = none).

    A feature that is never active has d = 0 for every label, which is said of none of them.
    """
    table = run.query("SELECT best_label_id, best_d FROM features ORDER BY layer, feature")
    label, d = table["best_label_id"].fill_null(-1).to_numpy(), table["best_d"].fill_null(float("nan")).to_numpy()
    active = run.hot.features["active_positions"] > 0
    return np.where(active, label, -1).astype(np.int32), np.where(active, d, np.float32("nan"))


@lru_cache(maxsize=16)
def _ordered(run: Run, order: Order) -> np.ndarray:
    """Places by a figure, largest first; undefined ones last, ties by place."""
    if order == "d":
        _, values = _best_label(run)
    else:
        values = run.hot.features[f"variety_{run.manifest.pooling}" if order == "variety" else order]
    falling = -values.astype(np.float64)
    falling[np.isnan(falling)] = np.inf
    return np.argsort(falling, kind="stable")


def _page(rows: list[T], question: str, limit: int, cursor: str | None) -> Page[T]:
    """A page of a list that is short enough to be made whole; the cursor is the place of its last row."""
    check_limit(limit)
    at = _number(cursor, question, len(rows)) + 1 if cursor else 0
    following = write_cursor(question, at + limit - 1) if at + limit < len(rows) else None
    return Page(rows[at : at + limit], following)


def _number(cursor: str, question: str, below: int) -> int:
    number = read_cursor(cursor, question, int)
    if not 0 <= number < below:
        raise _foreign()
    return number


def _foreign() -> CursorError:
    return CursorError("not a cursor of this list", field="cursor", fix="use `next` of the page before, unchanged")
