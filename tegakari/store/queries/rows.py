"""Rows of query results, gathered from the memory-mapped blocks."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import NamedTuple

import numpy as np

from tegakari.schemas.api import (
    DocumentRow,
    FeatureLabel,
    FeatureRow,
    LabelFeature,
    TopDocument,
    TopToken,
)
from tegakari.schemas.config import Pooling
from tegakari.store.blocks.files import DOCUMENTS_FILE, descending_order, top_file
from tegakari.store.queries.unweighted_d import unweighted_d
from tegakari.store.reader import Run
from tegakari.store.weak_cache import weakly_cached

CONTEXT_CHARACTERS = 40
"""Characters of text on either side of a top token."""

EXCERPT_CHARACTERS = 80
"""Characters of a document's text in a list."""


def label_feature_rows(run: Run, label_id: int, pooling: Pooling, places: np.ndarray) -> list[LabelFeature]:
    """Statistics of features for one label, in the order of `places`."""
    blocks = run.blocks
    columns, places = blocks.features, places.astype(np.intp)  # indexing with this type costs a quarter of the time
    d, mean, sd = (blocks.statistics[statistic, pooling][label_id][places] for statistic in ("d", "mean", "sd"))
    unweighted = _unweighted_d(run, pooling, places, mean, sd, run.label_documents[label_id])
    return [
        LabelFeature(
            layer=layer,
            feature=feature,
            cohens_d=d,
            mean=mean,
            sd=sd,
            cohens_d_unweighted=_or_none(unweighted_),
            documents_active=active,
            variety=variety,
            density=density,
            max_activation=maximum,
            top_tokens=tokens,
        )
        for d, mean, sd, unweighted_, active, layer, feature, variety, density, maximum, tokens in zip(
            *(column.tolist() for column in (d, mean, sd, unweighted)),
            blocks.documents_active[pooling][label_id][places].tolist(),
            *(
                columns[name][places].tolist()
                for name in ("layer", "feature", f"variety_{pooling}", "density", "max_activation")
            ),
            blocks.shown_texts(places),
            strict=True,
        )
    ]


def feature_label_rows(run: Run, place: int, pooling: Pooling) -> list[FeatureLabel]:
    """Statistics of one feature for each label in `descending_order` of d; [] if it is never active."""
    if not run.blocks.features["active_positions"][place]:
        return []
    d, mean, sd = (run.blocks.statistics[statistic, pooling][:, place] for statistic in ("d", "mean", "sd"))
    active = run.blocks.documents_active[pooling][:, place]
    order = descending_order(d, active, mean)
    names, documents = run.labels, run.label_documents
    unweighted = _unweighted_d(run, pooling, place, mean, sd, documents)
    return [
        FeatureLabel(
            label=names[label],
            cohens_d=_or_none(d_),
            mean=_or_none(mean_),
            sd=_or_none(sd_),
            cohens_d_unweighted=_or_none(unweighted_),
            documents_active=active_,
            documents=documents[label],
        )
        for label, d_, mean_, sd_, unweighted_, active_ in zip(
            order.tolist(), *(column[order].tolist() for column in (d, mean, sd, unweighted, active)), strict=True
        )
    ]


def _unweighted_d(
    run: Run, pooling: Pooling, places: np.ndarray | int, mean: np.ndarray, sd: np.ndarray, n: Sequence[int] | int
) -> np.ndarray:
    columns = run.blocks.features
    return unweighted_d(
        mean, sd, n, columns[f"mean_{pooling}"][places], columns[f"sd_{pooling}"][places], sum(run.label_documents)
    )


def _or_none(value: float) -> float | None:
    return None if isnan(value) else value


def token_rows(run: Run, place: int, n: int) -> list[TopToken]:
    """The n strongest positions of a feature, with the text around them."""
    top, documents = run.blocks.top_positions, run.blocks.documents
    count = int(np.count_nonzero(top.document[place, :n] >= 0))
    activation, document, position = (column[place, :count] for column in top)
    check_numbers = run.blocks.check_numbers
    check_numbers(top_file("token", "document"), document, len(documents.label_id))
    token = documents.first_token[document] + position
    beyond = documents.first_token[document + 1] - 1 - token  # tokens of the document after this one
    check_numbers(top_file("token", "position"), np.minimum(position, beyond), 2**31)
    check_numbers(DOCUMENTS_FILE, documents.token_starts[token], 2**31)
    rows = []
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
        rows.append(
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
    return rows


def feature_document_rows(run: Run, place: int, n: int) -> list[TopDocument]:
    """The n documents with the largest activations of a feature, up to TOP_DOCUMENTS."""
    top, documents = run.blocks.top_documents, run.blocks.documents
    count = int(np.count_nonzero(top.member[place, :n] >= 0))
    document = top.member[place, :count]
    run.blocks.check_numbers(top_file("document", "member"), document, len(documents.label_id))
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
                top.activation[place, :count].tolist(),
                document.tolist(),
                documents.label_id[document].tolist(),
                documents.predicted_id[document].tolist(),
                strict=True,
            ),
            start=1,
        )
    ]


def document_row(run: Run, number: int) -> DocumentRow:
    """Row of a document in a list, by its number."""
    documents = run.blocks.documents
    label, predicted = int(documents.label_id[number]), int(documents.predicted_id[number])
    return DocumentRow(
        document=documents.id[number].as_py(),
        label=run.labels[label],
        predicted=run.labels[predicted],
        correct=label == predicted,
        tokens=int(documents.first_token[number + 1] - documents.first_token[number]),
        text=documents.text[number].as_py()[:EXCERPT_CHARACTERS],
    )


def feature_rows(run: Run, places: np.ndarray) -> list[FeatureRow]:
    """Rows of features in a list, by their places."""
    blocks = run.blocks
    names = ("layer", "feature", "density", "active_positions", "mean_activation", "max_activation")
    columns = [blocks.features[name][places].tolist() for name in names]
    variety = blocks.features[f"variety_{run.manifest.pooling}"][places].tolist()
    best_label, best_d, best_active = (values[places].tolist() for values in best_labels(run))
    return [
        FeatureRow(
            **dict(zip(names, values, strict=True)),
            variety=variety_,
            best_label=run.labels[label] if label >= 0 else None,
            best_d=d if label >= 0 else None,
            best_documents_active=active if label >= 0 else None,
            top_tokens=tokens,
        )
        for *values, variety_, label, d, active, tokens in zip(
            *columns, variety, best_label, best_d, best_active, blocks.shown_texts(places), strict=True
        )
    ]


class BestLabels(NamedTuple):
    """Label with the largest d of each place."""

    label: np.ndarray
    """int32, -1 = none"""
    d: np.ndarray
    """float32, NaN = none"""
    documents_active: np.ndarray
    """int32: documents of the label in which the feature is active; 0 = none"""


@weakly_cached(maxsize=8)
def best_labels(run: Run) -> BestLabels:
    """Label with the largest d of each place; a feature that is never active has none, because its d are all 0.

    Raises:
        StoreError: the tables have other features or labels than the blocks.
    """
    table = run.query("SELECT best_label_id, best_d, best_documents_active FROM features ORDER BY layer, feature")
    label = table["best_label_id"].fill_null(-1).to_numpy()
    if len(label) != run.blocks.places.starts[-1]:
        raise run.unreadable(ValueError("the features of its tables are not those of its blocks"))
    run.blocks.check_numbers("best_label_id", label, len(run.labels) + 1, first=-1)
    return BestLabels(
        label,
        table["best_d"].fill_null(float("nan")).to_numpy(),
        table["best_documents_active"].fill_null(0).to_numpy(),
    )
