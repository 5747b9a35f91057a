"""Scores of predictions, the same for every model."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from tegakari.schemas.classifier import ConfusionCount, LabelScore, ModelScores


def score(labels: Sequence[str], own: np.ndarray, predicted: np.ndarray) -> ModelScores:
    """Score predictions.

    Args:
        labels: by class index.
        own: int [documents]; class of each document; every class occurs.
        predicted: int [documents]; class that it is given.
    """
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (own, predicted), 1)
    hits, documents, predictions = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    table = zip(
        labels,
        (hits / np.maximum(predictions, 1)).tolist(),
        (hits / documents).tolist(),
        (2 * hits / (documents + predictions)).tolist(),
        documents.tolist(),
        strict=True,
    )
    rows = [
        LabelScore(label=label, precision=precision, recall=recall, f1=f1, support=support)
        for label, precision, recall, f1, support in table
    ]
    return ModelScores(
        macro_f1=fmean(row.f1 for row in rows),
        accuracy=int(hits.sum()) / len(own),
        labels=rows,
        confusion=[
            ConfusionCount(label=labels[label], predicted=labels[given], documents=int(confusion[label, given]))
            for label, given in np.argwhere(confusion).tolist()
        ],
        macro_f1_by_prefix=macro_f1_by_prefix(rows),
    )


def macro_f1_by_prefix(scores: Sequence[LabelScore], separator: str = "-") -> dict[str, float]:
    """Mean F1 of the labels that share what stands before their first separator, for each such prefix of two or more.

    Args:
        scores: of each label.
        separator: ends the prefix; a label without one has none.
    """
    groups: dict[str, list[float]] = {}
    for row in scores:
        prefix, found, _ = row.label.partition(separator)
        if found:
            groups.setdefault(prefix, []).append(row.f1)
    return {prefix: fmean(f1) for prefix, f1 in sorted(groups.items()) if len(f1) > 1}
