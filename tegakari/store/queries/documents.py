"""Queries about documents."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import pyarrow.compute as pc

from tegakari.schemas.api import (
    DocumentDetail,
    DocumentFeature,
    DocumentRow,
    Page,
)
from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.store.blocks.blocks import TOP_FEATURES
from tegakari.store.queries.cursor import _number, _page, write_cursor
from tegakari.store.queries.parameters import (
    check_layer,
    check_limit,
)
from tegakari.store.queries.rows import document_row
from tegakari.store.reader import Run

T = TypeVar("T")


SHOWN_FEATURES = 5
"""Strongest features of a document shown of each layer unless another number is asked for."""


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
    known = run.blocks.documents
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
    known = run.blocks.documents
    label, predicted = (run.labels[ids[number]] for ids in (known.label_id, known.predicted_id))
    layers = run.manifest.saes.layers if layer is None else [layer]
    shown = [found for each in layers for found in _document_features(run, number, each, features)]
    return DocumentDetail(
        document=id_, label=label, predicted=predicted, correct=label == predicted, features=shown, **row
    )


def document_features(
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
    return _page(found, f"document_features {run.manifest.fingerprint[:16]} {number} {layer}", limit, cursor)


def document_number(run: Run, id_: str) -> int:
    """Number of a document.

    Raises:
        NotFoundError: the run has no document of that id.
    """
    number: int = pc.index(run.blocks.documents.id, id_).as_py()
    if number < 0:
        raise NotFoundError(
            f"run {run.name!r} has no document {id_!r}", field="document", fix="ids are those of the corpus"
        )
    return number


def _document_features(run: Run, number: int, layer: int, n: int) -> list[DocumentFeature]:
    blocks = run.blocks
    at, first = run.manifest.saes.layers.index(layer), blocks.places.slice_of(layer).start
    features, activations = blocks.top_features.member[at, number, :n], blocks.top_features.activation[at, number, :n]
    features = features[features >= 0]
    places = first + features
    return [
        DocumentFeature(
            layer=layer,
            feature=feature,
            rank=rank,
            activation=activation,
            variety=variety,
            top_tokens=[blocks.token_texts[token] for token in shown if token >= 0],
        )
        for rank, (feature, activation, variety, shown) in enumerate(
            zip(
                features.tolist(),
                activations[: len(features)].tolist(),
                blocks.features[f"variety_{run.manifest.pooling}"][places].tolist(),
                blocks.shown_tokens[places].tolist(),
                strict=True,
            ),
            start=1,
        )
    ]
