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
    arrays = [document.tokens.arrays for document in documents]
    tokens = np.array([len(token_ids) for token_ids, _ in arrays], np.int32)
    offsets = np.cumsum([0, *tokens]).astype(np.int32)
    spans = np.concatenate([spans for _, spans in arrays])
    columns = {
        "token_ids": np.concatenate([token_ids for token_ids, _ in arrays]),
        "token_starts": np.ascontiguousarray(spans[:, 0]),
        "token_ends": np.ascontiguousarray(spans[:, 1]),
    }
    return pa.table(
        {
            "document": np.array([document.number for document in documents], np.int32),
            "id": [document.id for document in documents],
            "label_id": label_ids(documents),
            "split": [document.split for document in documents],
            "predicted_id": predictions.predicted_id[numbers],
            "label_logit": predictions.label_logit[numbers],
            "predicted_logit": predictions.predicted_logit[numbers],
            "tokens": tokens,
            "truncated": [document.tokens.truncated for document in documents],
            "text": [document.text for document in documents],
            **{name: pa.ListArray.from_arrays(offsets, values) for name, values in columns.items()},
        }
    )


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
