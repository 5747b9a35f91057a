"""95 % intervals by the percentile bootstrap: what was measured is drawn again, with replacement."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SAMPLES = 2000
PERCENTILES = (2.5, 97.5)
_CELLS = 4_000_000
"""drawn at a time, so that memory does not grow with the number of things"""


def mean_interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    """Of the mean of values [n]; of a difference, where each value is a paired difference. (nan, nan) for n = 0."""
    return _percentiles(_means(values, seed))


def difference_interval(a: np.ndarray, b: np.ndarray, seed: int) -> tuple[float, float]:
    """Of mean(b) - mean(a) for values [n] and [m] of different things, drawn independently."""
    first, second = np.random.SeedSequence(seed).generate_state(2)
    return _percentiles(_means(b, int(second)) - _means(a, int(first)))


def statistic_interval(statistic: Callable[[np.ndarray], float], n: int, seed: int) -> tuple[float, float]:
    """Of any statistic of n things.

    Args:
        statistic: of the things with these numbers, int64 [n]; a number may come more than once.
        n: things.
        seed: of the draws.
    """
    if n == 0:
        return float("nan"), float("nan")
    draw = np.random.default_rng(seed)
    return _percentiles(np.array([statistic(draw.integers(0, n, n)) for _ in range(SAMPLES)]))


def _means(values: np.ndarray, seed: int) -> np.ndarray:
    n = len(values)
    if n == 0:
        return np.full(SAMPLES, np.nan)
    draw = np.random.default_rng(seed)
    at_once = max(1, min(SAMPLES, _CELLS // n))
    parts = [min(at_once, SAMPLES - done) for done in range(0, SAMPLES, at_once)]
    return np.concatenate([values[draw.integers(0, n, (part, n))].mean(1) for part in parts])


def _percentiles(statistics: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(statistics, PERCENTILES)
    return float(low), float(high)


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
