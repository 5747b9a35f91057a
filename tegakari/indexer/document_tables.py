"""Rows of the tables documents, labels and confusion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tegakari.indexer.predictions import Predictions
from tegakari.indexer.shard import IndexedDocument


def document_rows(documents: Sequence[IndexedDocument], predictions: Predictions, numbers: slice) -> pa.Table:
    """Rows of the table documents.

    Args:
        documents: at least one, with consecutive numbers.
        predictions: for all documents.
        numbers: of the documents.
    """
    token_ids, token_starts, token_ends = _token_columns(documents)
    return pa.table(
        {
            "document": np.array([document.number for document in documents], np.int32),
            "id": [document.id for document in documents],
            "label_id": label_ids(documents),
            "split": [document.split for document in documents],
            "predicted_id": predictions.predicted_id[numbers],
            "label_logit": predictions.label_logit[numbers],
            "predicted_logit": predictions.predicted_logit[numbers],
            "tokens": token_ids.value_lengths(),
            "truncated": [document.tokens.truncated for document in documents],
            "text": [document.text for document in documents],
            "token_ids": token_ids,
            "token_starts": token_starts,
            "token_ends": token_ends,
        }
    )


def block_documents(documents: Sequence[IndexedDocument], predictions: Predictions) -> pa.Table:
    """Documents as the blocks have them; columns as of `BlocksWriter.finish`."""
    token_ids, token_starts, token_ends = _token_columns(documents)
    return pa.table(
        {
            "id": [document.id for document in documents],
            "label_id": label_ids(documents),
            "predicted_id": predictions.predicted_id,
            "text": pa.array((document.text for document in documents), pa.large_string()),  # may exceed 2 GiB
            "token_ids": token_ids,
            "token_starts": token_starts,
            "token_ends": token_ends,
        }
    )


def _token_columns(documents: Sequence[IndexedDocument]) -> list[pa.ListArray]:
    """Ids, first characters, and the characters after the last, of the tokens of documents; one list per document."""
    offsets = np.cumsum([0, *(len(document.tokens) for document in documents)], dtype=np.int32)
    columns = [np.empty(offsets[-1], np.int32) for _ in range(3)]
    for start, stop, document in zip(offsets[:-1], offsets[1:], documents, strict=True):
        token_ids, spans = document.tokens.arrays
        for column, values in zip(columns, (token_ids, spans[:, 0], spans[:, 1]), strict=True):
            column[start:stop] = values
    return [pa.ListArray.from_arrays(offsets, column) for column in columns]


def label_ids(documents: Sequence[IndexedDocument]) -> np.ndarray:
    """Class index of each document, int32 [documents]."""
    return np.array([document.label_id for document in documents], np.int32)


def confusion_matrix(true: np.ndarray, predicted: np.ndarray, labels: int) -> np.ndarray:
    """Number of documents by true and predicted class, int32 [labels, labels].

    Args:
        true: int32 [documents].
        predicted: int32 [documents].
        labels: number of classes.
    """
    confusion = np.zeros((labels, labels), np.int32)
    np.add.at(confusion, (true, predicted), 1)
    return confusion


def confusion_rows(confusion: np.ndarray) -> pa.Table:
    """Rows of the table confusion: the cells with documents."""
    label, predicted = np.nonzero(confusion)
    return pa.table({"label_id": label, "predicted_id": predicted, "documents": confusion[label, predicted]})


def label_rows(labels: Sequence[str], confusion: np.ndarray, specific: np.ndarray, shared: np.ndarray) -> pa.Table:
    """Rows of the table labels.

    Args:
        labels: by class index.
        confusion: from `confusion_matrix`.
        specific: int64 [labels]: features with this label alone above the threshold of Cohen's d.
        shared: int64 [labels]: features with this label and others above the threshold.
    """
    hits = confusion.diagonal()
    documents, predictions = confusion.sum(1), confusion.sum(0)
    return pa.table(
        {
            "label_id": np.arange(len(labels), dtype=np.int32),
            "label": list(labels),
            "documents": documents,
            "precision": hits / np.maximum(predictions, 1),
            "recall": hits / np.maximum(documents, 1),
            "f1": 2 * hits / np.maximum(documents + predictions, 1),
            "specific_features": specific,
            "shared_features": shared,
        }
    )
