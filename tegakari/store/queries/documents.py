"""Queries about documents."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from tegakari.schemas.api import (
    DocumentDetail,
    DocumentFeature,
    DocumentRow,
    Page,
)
from tegakari.schemas.errors import NotFoundError
from tegakari.store.blocks.files import TOP_FEATURES, top_file
from tegakari.store.queries.cursor import list_name, page_of, read_number, write_cursor
from tegakari.store.queries.parameters import check_limit, check_range, layers_of
from tegakari.store.queries.rows import document_row
from tegakari.store.reader import Run

DETAIL_FEATURES = 5
"""Default number of strongest features per layer in the details of a document."""


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
        label: only documents with this label.
        predicted: only documents with this prediction.
        correct: only documents whose prediction is their label (True), or another one (False).
        limit: rows per page.
        cursor: `next` of the page before.

    Raises:
        NotFoundError: no such label.
        QueryError: the limit is out of range.
        CursorError: the cursor does not come from a page of this list.
    """
    check_limit(limit)
    columns = run.blocks.documents
    passes = np.ones(len(columns.label_id), bool)
    if label is not None:
        passes &= columns.label_id == run.label_id(label)
    if predicted is not None:
        passes &= columns.predicted_id == run.label_id(predicted)
    if correct is not None:
        passes &= (columns.label_id == columns.predicted_id) == correct
    list_ = list_name(run, "documents", label, predicted, correct)
    numbers = np.flatnonzero(passes)
    last = read_number(cursor, list_, len(passes))
    if last is not None:
        numbers = numbers[np.searchsorted(numbers, last, side="right") :]
    page = numbers[:limit].tolist()
    following = write_cursor(list_, page[-1]) if len(numbers) > limit else None
    return Page([document_row(run, number) for number in page], following)


def document(run: Run, id_: str, *, layer: int | None = None, features: int = DETAIL_FEATURES) -> DocumentDetail:
    """One document: its text, its prediction, and its strongest features.

    Args:
        run: the run.
        id_: its id in the corpus.
        layer: only features of this layer.
        features: number of strongest features per layer, up to TOP_FEATURES.

    Raises:
        NotFoundError: no such document or layer.
        QueryError: more features than TOP_FEATURES.
    """
    number = document_number(run, id_)
    check_range("features", features, 0, TOP_FEATURES)
    layers = layers_of(run, layer)
    row = run.row(
        "SELECT split, label_logit, predicted_logit, tokens, truncated, text FROM documents WHERE document = $number",
        {"number": number},
    )
    columns = run.blocks.documents
    label, predicted = (run.labels[ids[number]] for ids in (columns.label_id, columns.predicted_id))
    return DocumentDetail(
        document=id_,
        label=label,
        predicted=predicted,
        correct=label == predicted,
        features=_feature_rows(run, number, layers, features),
        **row,
    )


def document_features(
    run: Run, id_: str, *, layer: int | None = None, limit: int = 50, cursor: str | None = None
) -> Page[DocumentFeature]:
    """The TOP_FEATURES strongest features of a document in each layer, by layer, strongest first.

    Raises:
        NotFoundError: no such document or layer.
        QueryError: the limit is out of range.
        CursorError: the cursor does not come from a page of this list.
    """
    number = document_number(run, id_)
    rows = _feature_rows(run, number, layers_of(run, layer), TOP_FEATURES)
    return page_of(rows, list_name(run, "document_features", number, layer), limit, cursor)


def document_number(run: Run, id_: str) -> int:
    """Number of a document.

    Raises:
        NotFoundError: the run has no document with this id.
    """
    number: int = pc.index(run.blocks.documents.id, id_).as_py()
    if number < 0:
        raise NotFoundError(
            f"run {run.name!r} has no document {id_!r}", field="document", fix="ids are those of the corpus"
        )
    return number


def _feature_rows(run: Run, number: int, layers: list[int], n: int) -> list[DocumentFeature]:
    """The n strongest features of a document in each of the layers, by layer, strongest first."""
    return [row for layer in layers for row in _layer_feature_rows(run, number, layer, n)]


def _layer_feature_rows(run: Run, number: int, layer: int, n: int) -> list[DocumentFeature]:
    blocks = run.blocks
    index, first = run.manifest.saes.layers.index(layer), blocks.places.slice_of(layer).start
    features = blocks.top_features.member[index, number, :n]
    activations = blocks.top_features.activation[index, number, :n]
    features = features[features >= 0]
    blocks.check_numbers(top_file("feature", "member"), features, blocks.places.widths[index])
    places = first + features
    return [
        DocumentFeature(
            layer=layer,
            feature=feature,
            rank=rank,
            activation=activation,
            variety=variety,
            top_tokens=tokens,
        )
        for rank, (feature, activation, variety, tokens) in enumerate(
            zip(
                features.tolist(),
                activations[: len(features)].tolist(),
                blocks.features[f"variety_{run.manifest.pooling}"][places].tolist(),
                blocks.shown_texts(places),
                strict=True,
            ),
            start=1,
        )
    ]
