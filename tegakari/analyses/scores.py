"""Scores of a classifier over the documents of a run."""

from __future__ import annotations

import numpy as np


def macro_f1(own: np.ndarray, predicted: np.ndarray, labels: int) -> float:
    """Mean F1 over the labels that occur.

    Args:
        own: int [D], class of each document.
        predicted: int [D], class that it is given.
        labels: number of classes.
    """
    documents, predictions = np.bincount(own, minlength=labels), np.bincount(predicted, minlength=labels)
    hits = np.bincount(own[own == predicted], minlength=labels)
    there = documents > 0
    return float((2 * hits[there] / (documents + predictions)[there]).mean())
