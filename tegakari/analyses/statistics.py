"""95 % intervals, by the percentile bootstrap and by scores, and macro-F1.

A bootstrap interval is between percentiles of a statistic over samples drawn with replacement. What each interval
covers: docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from tegakari.schemas.analysis import Interval

SAMPLES = 2000
PERCENTILES = (2.5, 97.5)
_VALUES_PER_BLOCK = 4_000_000
"""Values drawn at a time, so that memory does not grow with n."""


def mean_interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    """Interval of the mean of values [n]; (nan, nan) for n = 0. For a paired difference, values are the differences."""
    return _percentiles(_means(values, seed))


def difference_interval(a: np.ndarray, b: np.ndarray, seed: int) -> tuple[float, float]:
    """Interval of mean(b) - mean(a) for unpaired values [n] and [m], drawn independently."""
    first, second = np.random.SeedSequence(seed).generate_state(2)
    return _percentiles(_means(b, int(second)) - _means(a, int(first)))


def statistic_interval(statistic: Callable[[np.ndarray], float], n: int, seed: int) -> tuple[float, float]:
    """Interval of any statistic of n items; (nan, nan) for n = 0.

    Args:
        statistic: of the items with these numbers, int64 [n]; a number may occur more than once.
        n: number of items.
        seed: of the draws.
    """
    if n == 0:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    return _percentiles(np.array([statistic(generator.integers(0, n, n)) for _ in range(SAMPLES)]))


def interval_of_mean(values: np.ndarray, seed: int) -> Interval:
    """Mean of values [n] with its interval."""
    low, high = mean_interval(values, seed)
    return Interval(value=float(values.mean()), low=low, high=high)


def interval_of_statistic(statistic: Callable[[np.ndarray], float], n: int, seed: int) -> Interval:
    """A statistic of all n items with its interval; arguments as of `statistic_interval`."""
    low, high = statistic_interval(statistic, n, seed)
    return Interval(value=statistic(np.arange(n)), low=low, high=high)


def macro_f1(expected: np.ndarray, predicted: np.ndarray, labels: int) -> float:
    """Mean F1 over the labels that occur.

    Args:
        expected: int [D], class of each document.
        predicted: int [D], predicted class of each document.
        labels: number of classes.
    """
    documents, predictions = np.bincount(expected, minlength=labels), np.bincount(predicted, minlength=labels)
    hits = np.bincount(expected[expected == predicted], minlength=labels)
    occurs = documents > 0
    return float((2 * hits[occurs] / (documents + predictions)[occurs]).mean())


def share_change_interval(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """95 % interval of the change of a share, mean(after) - mean(before), over the same items: Tango's score interval.

    Unlike a bootstrap it covers where nearly all or nearly no items change, and never has width 0 (Tango 1998,
    Statistics in Medicine 17, 891-908).

    Args:
        before: bool [n].
        after: bool [n], parallel to `before`.

    Returns:
        (nan, nan) for n = 0.
    """
    n, gained, lost = len(before), int((after & ~before).sum()), int((before & ~after).sum())
    if n == 0:
        return float("nan"), float("nan")
    z = NormalDist().inv_cdf(PERCENTILES[1] / 100)

    def score(change: float) -> float:
        """Standardised difference of the observed change from a hypothetical one."""
        b = (2 * n - gained + lost) * change - gained - lost
        c = -lost * change * (1 - change)
        share_lost = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)  # maximum likelihood at this change
        variance = n * (2 * share_lost + change * (1 - change))
        distance = gained - lost - n * change
        return (
            distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance) if distance else 0.0
        )

    observed = (gained - lost) / n
    return (
        _root(lambda change: score(change) - z, -1.0, observed),
        _root(lambda change: score(change) + z, observed, 1.0),
    )


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Root of a decreasing function between two arguments, by bisection; the nearer end without one."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return (low + high) / 2


def _means(values: np.ndarray, seed: int) -> np.ndarray:
    """Means of SAMPLES samples of values [n], float64 [SAMPLES]."""
    n = len(values)
    if n == 0:
        return np.full(SAMPLES, np.nan)
    generator = np.random.default_rng(seed)
    block = max(1, min(SAMPLES, _VALUES_PER_BLOCK // n))
    sizes = [min(block, SAMPLES - drawn) for drawn in range(0, SAMPLES, block)]
    return np.concatenate([values[generator.integers(0, n, (size, n))].mean(1) for size in sizes])


def _percentiles(statistics: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(statistics, PERCENTILES)
    return float(low), float(high)
