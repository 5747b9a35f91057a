"""Scores of predictions: precision, recall, F1, confusion."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from tegakari.schemas.classifier import ConfusionCount, LabelScore, ModelScores


def score(labels: Sequence[str], true: np.ndarray, predicted: np.ndarray) -> ModelScores:
    """Score predictions.

    Args:
        labels: by class index.
        true: int [documents]; true class of each document; every class occurs.
        predicted: int [documents]; predicted class of each document.
    """
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (true, predicted), 1)
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
        accuracy=int(hits.sum()) / len(true),
        labels=rows,
        confusion=[
            ConfusionCount(label=labels[label], predicted=labels[guess], documents=int(confusion[label, guess]))
            for label, guess in np.argwhere(confusion).tolist()
        ],
        macro_f1_by_prefix=macro_f1_by_prefix(rows),
    )


def macro_f1_by_prefix(scores: Sequence[LabelScore], separator: str = "-") -> dict[str, float]:
    """Mean F1 of the labels that share a prefix, for each prefix of at least two labels.

    Args:
        scores: scores of each label.
        separator: first occurrence ends the prefix; a label without it has no prefix.
    """
    groups: dict[str, list[float]] = {}
    for row in scores:
        prefix, separated, _ = row.label.partition(separator)
        if separated:
            groups.setdefault(prefix, []).append(row.f1)
    return {prefix: fmean(f1) for prefix, f1 in sorted(groups.items()) if len(f1) > 1}
