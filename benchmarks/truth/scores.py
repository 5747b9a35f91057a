"""Coverage of the intervals of macro-F1, accuracy, and a difference of macro-F1."""

from __future__ import annotations

from itertools import product

import numpy as np

from benchmarks.truth.row import Row
from tegakari.analyses.statistics import Predictions, interval_of_macro_f1, interval_of_share, macro_f1_difference
from tegakari.schemas.analysis import Interval
from tegakari.store.score_intervals import f1_ends

AT_LEAST, AT_MOST = 0.92, 0.98
AT_MOST_OF_LABEL = 0.99
"""The number of documents of a label is fixed, and its interval takes it for drawn too."""
LABELS = (4, 30)
DOCUMENTS_PER_LABEL = (10, 40, 120)
ACCURACIES = (0.6, 0.85, 0.97)
DIFFERENCE = 0.05
AGREEMENT = 0.7
"""Share of the documents for which the second classifier repeats the first."""


def simulate(seeds: int) -> list[Row]:
    """Rows for every number of labels, documents and accuracy; all documents of the wrong kind are spread evenly."""
    rows = []
    for labels, per_label, accuracy in product(LABELS, DOCUMENTS_PER_LABEL, ACCURACIES):
        generator = np.random.default_rng([labels, per_label, round(100 * accuracy)])
        expected = np.repeat(np.arange(labels), per_label)
        macro, first, shares, differences = [], [], [], []
        for _ in range(seeds):
            a, b = (_predicted(generator, expected, labels, share) for share in (accuracy, accuracy - DIFFERENCE))
            b = np.where(generator.random(len(a)) < AGREEMENT, a, b)
            macro.append(_covers(interval_of_macro_f1(expected, a, labels), accuracy))
            hits = int((a[expected == 0] == 0).sum())
            low, high = f1_ends(hits, per_label, int((a == 0).sum()))
            first.append(low <= accuracy <= high)
            shares.append(_covers(interval_of_share(a == expected), accuracy))
            difference = macro_f1_difference(Predictions(expected, a, labels), Predictions(expected, b, labels))
            differences.append(_covers(difference, -DIFFERENCE * (1 - AGREEMENT)))
        case = f"{labels} labels, {per_label} documents per label, truth {accuracy:g}"
        coverages = {"macro-F1": macro, "accuracy": shares, "difference of macro-F1": differences}
        for figure, covered in coverages.items():
            rows.append(Row(figure, case, float(np.mean(covered)), AT_LEAST, AT_MOST, seeds))
        rows.append(Row("F1 of a label", case, float(np.mean(first)), AT_LEAST, AT_MOST_OF_LABEL, seeds))
    return rows


def _predicted(generator: np.random.Generator, expected: np.ndarray, labels: int, accuracy: float) -> np.ndarray:
    """Predictions of which a share is right; macro-F1 is that share too, as the errors are spread evenly."""
    other = (expected + generator.integers(1, labels, len(expected))) % labels
    return np.where(generator.random(len(expected)) < accuracy, expected, other)


def _covers(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high
