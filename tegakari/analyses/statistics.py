"""95 % intervals, by the percentile bootstrap and by scores, and macro-F1.

A bootstrap interval is between percentiles of a statistic over samples drawn with replacement. What each interval
covers: docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tegakari.schemas.analysis import Interval
from tegakari.store.score_intervals import Z, wilson

SAMPLES = 2000
PERCENTILES = (2.5, 97.5)
_VALUES_PER_BLOCK = 4_000_000
"""Values drawn at a time, so that memory does not grow with n."""


def mean_interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    """Interval of the mean of values [n]; (nan, nan) for n = 0. For a paired difference, values are the differences."""
    return _percentiles(_means(values, seed))


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


def macro_f1(expected: np.ndarray, predicted: np.ndarray, labels: int) -> float:
    """Mean F1 over the labels that occur.

    Args:
        expected: int [D], class of each document.
        predicted: int [D], predicted class of each document.
        labels: number of classes.
    """
    return _macro_f1(_confusion(expected, predicted, labels))


def interval_of_macro_f1(expected: np.ndarray, predicted: np.ndarray, labels: int) -> Interval:
    """Macro-F1 with Wilson's score interval at an effective number of documents; arguments as of `macro_f1`.

    The effective number is that of a share with the variance of macro-F1 (the delta method, over documents of each
    label: Takahashi et al. 2022, Applied Intelligence 52, 4961-4972). Unlike a bootstrap the interval covers with ten
    documents per label, and where nearly all predictions are right.
    """
    n = len(expected)
    score = macro_f1(expected, predicted, labels)
    if n == 0:
        return Interval(value=score, low=float("nan"), high=float("nan"))
    least = 1 / n**2  # of the variance: about that of one document, so that a sample without errors has a design effect
    variance = _variance_within(expected, _macro_f1_influence(expected, predicted, labels), labels)
    design_effect = (variance + least) / (score * (1 - score) / n + least)
    low, high = wilson(score, n / design_effect)
    return Interval(value=score, low=low, high=high)


def interval_of_share(hits: np.ndarray) -> Interval:
    """Share of True in bool [n], with Wilson's score interval (Wilson 1927); NaN for n = 0."""
    share = float(hits.mean()) if len(hits) else float("nan")
    low, high = wilson(share, len(hits))
    return Interval(value=share, low=low, high=high)


def mean_share_interval(shares: Sequence[float], n: int) -> Interval:
    """Mean of the shares of the same n items over draws, such as recall in the draws of a control.

    The part of the items is Wilson's at n; that of two or more draws is Student's, of their mean. Both are added in
    quadrature (Zou and Donner 2008, Statistics in Medicine 27, 1693-1702).

    Args:
        shares: of each draw, at least one.
        n: number of items, at least one.
    """
    values = np.asarray(shares, np.float64)
    value = float(values.mean())
    low, high = wilson(value, n)
    draws = small_sample_interval(values).high - value if len(values) > 1 else 0.0
    return Interval(
        value=value,
        low=max(0.0, value - math.hypot(value - low, draws)),
        high=min(1.0, value + math.hypot(high - value, draws)),
    )


def balanced_accuracy(hits: np.ndarray, rejections: np.ndarray) -> Interval:
    """Mean of two shares of True, of positives that are recognised and of negatives that are rejected.

    The interval is Newcombe's for a sum of two independent shares, from the distances of their Wilson intervals (the
    hybrid score method 10 of Newcombe 1998, Statistics in Medicine 17, 873-890; Zou and Donner 2008).

    Args:
        hits: bool [n], n at least 1.
        rejections: bool [m], m at least 1.
    """
    shares = interval_of_share(hits), interval_of_share(rejections)
    value = sum(share.value for share in shares) / 2
    below = math.hypot(*(share.value - share.low for share in shares)) / 2
    above = math.hypot(*(share.high - share.value for share in shares)) / 2
    return Interval(value=value, low=value - below, high=value + above)


class Predictions(NamedTuple):
    """Predictions of one classifier for documents whose classes are known."""

    expected: np.ndarray
    """int [D], class of each document"""
    predicted: np.ndarray
    """int [D]"""
    labels: int
    """number of classes"""


def macro_f1_difference(a: Predictions, b: Predictions) -> Interval:
    """Macro-F1 of b minus that of a on the same documents, with the interval of the delta method.

    Args:
        a: of the first classifier.
        b: of the second; the same documents in the same order, whose classes may have other numbers.
    """
    n = len(a.expected)
    value = macro_f1(*b) - macro_f1(*a)
    change = _macro_f1_influence(*b) - _macro_f1_influence(*a)
    half = Z * math.sqrt(_variance_within(a.expected, change, a.labels) + 0.5 / n**2) if n else float("nan")
    return Interval(value=value, low=value - half, high=value + half)


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
        _root(lambda change: score(change) - Z, -1.0, observed),
        _root(lambda change: score(change) + Z, observed, 1.0),
    )


def share_ratio_interval(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """95 % interval of the ratio of two shares, mean(after) / mean(before), over the same items, by their score.

    Never of width 0 (Nam & Blackwelder 2002, Statistics in Medicine 21, 689-699).

    Args:
        before: bool [n].
        after: bool [n], parallel to `before`.

    Returns:
        (nan, nan) if `before` is nowhere true.
    """
    n = len(before)
    if not before.any():
        return float("nan"), float("nan")
    share_before, share_after = float(before.mean()), float(after.mean())
    gained, lost, neither = (float(mask.mean()) for mask in (after & ~before, before & ~after, ~before & ~after))

    def score(ratio: float) -> float:
        """Standardised difference of the observed ratio from a hypothetical one."""
        square = ratio * ratio
        root = math.sqrt((share_after - square * share_before) ** 2 + 4 * square * gained * lost)
        share_lost = (square * (share_before + 2 * gained) - share_after + root) / (2 * ratio * (ratio + 1))
        share_gained = ratio * share_lost - (ratio - 1) * (1 - neither)  # maximum likelihood at this ratio
        variance = ratio * max(share_gained + share_lost, 0.0) / n
        distance = share_after - ratio * share_before
        return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)

    observed = share_after / share_before
    beyond = 2 * observed + 1
    while score(beyond) > -Z:
        beyond *= 2
    low = _root(lambda ratio: score(ratio) - Z, 0.0, observed) if share_after else 0.0
    return low, _root(lambda ratio: score(ratio) + Z, observed, beyond)


def net_change_interval(after: np.ndarray, controls: np.ndarray) -> Interval:
    """A share minus its mean over control sets, mean(after) - mean(controls), on the same items.

    The set behind `after` counts as one more draw of a set: without an effect of its own it differs from the mean of J
    draws with standard deviation `s * sqrt(1 + 1 / J)`, where s is that of the draws. Its quantile is Student's, with
    J - 1 degrees of freedom. The part of the items is the mean distance of Tango's interval over the draws, and both
    parts are added in quadrature (Zou and Donner 2008, Statistics in Medicine 27, 1693-1702).

    Args:
        after: bool [n].
        controls: bool [J, n], J at least 2.
    """
    draws = len(controls)
    net = after.mean() - controls.mean(1)
    ends = np.array([share_change_interval(control, after) for control in controls])
    of_draws = _student_quantile(draws - 1) * float(net.std(ddof=1)) * math.sqrt(1 + 1 / draws)
    below, above = (net - ends[:, 0]).mean(), (ends[:, 1] - net).mean()
    value = float(net.mean())
    low, high = value - math.hypot(below, of_draws), value + math.hypot(above, of_draws)
    return Interval(value=value, low=max(low, -1.0), high=min(high, 1.0))


def net_mean_interval(after: np.ndarray, controls: np.ndarray) -> Interval:
    """A mean minus its mean over control sets, mean(after) - mean(controls), of values of the same items.

    The part of the draws is that of `net_change_interval`. The part of the items is Student's, of each item's distance
    to its mean over the control sets; both are added in quadrature.

    Args:
        after: float64 [n], n at least 2.
        controls: float64 [J, n], J at least 2.
    """
    draws = len(controls)
    items = small_sample_interval(after - controls.mean(0))
    of_draws = _student_quantile(draws - 1) * float(controls.mean(1).std(ddof=1)) * math.sqrt(1 + 1 / draws)
    half = math.hypot(items.high - items.value, of_draws)
    return Interval(value=items.value, low=items.value - half, high=items.value + half)


def small_sample_interval(values: np.ndarray) -> Interval:
    """Mean of values [n], n at least 2, with Student's interval, which covers where n is too small for a bootstrap."""
    n, mean = len(values), float(values.mean())
    half = _student_quantile(n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    return Interval(value=mean, low=mean - half, high=mean + half)


def _student_quantile(degrees: int) -> float:
    """Upper end of the central 95 % of Student's distribution."""
    from scipy.special import stdtrit  # queries of a store use this module without scipy

    return float(stdtrit(degrees, PERCENTILES[1] / 100))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Root of a decreasing function between two arguments, by bisection; the nearer end without one."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return (low + high) / 2


def _confusion(expected: np.ndarray, predicted: np.ndarray, labels: int) -> np.ndarray:
    """Number of documents by class and predicted class, int64 [labels, labels]."""
    cells = np.asarray(expected, np.int64) * labels + predicted
    return np.bincount(cells, minlength=labels * labels).reshape(labels, labels)


def _macro_f1(confusion: np.ndarray) -> float:
    documents, predictions = confusion.sum(1), confusion.sum(0)
    occurs = documents > 0
    return float((2 * confusion.diagonal()[occurs] / (documents + predictions)[occurs]).mean())


def _macro_f1_influence(expected: np.ndarray, predicted: np.ndarray, labels: int) -> np.ndarray:
    """Derivative of macro-F1 with respect to the weight of each document, float64 [D].

    With h hits, n documents and p predictions of a label, F1 = 2h / (n + p): a document adds 2 / (n + p) to the F1 of
    its label if it is a hit, and -2h / (n + p)^2 to those of its label and of the predicted one.
    """
    confusion = _confusion(expected, predicted, labels)
    documents, predictions = confusion.sum(1), confusion.sum(0)
    occurs = documents > 0
    inverse = np.where(occurs, 1 / np.maximum(documents + predictions, 1), 0.0)
    slope = -2 * confusion.diagonal() * inverse**2
    hit = expected == predicted
    return (slope[expected] + slope[predicted] + np.where(hit, 2 * inverse[expected], 0.0)) / occurs.sum()


def _variance_within(label: np.ndarray, influence: np.ndarray, labels: int) -> float:
    """Variance of a statistic with the influence of each document, float64 [D], where each label's number is fixed."""
    n = np.bincount(label, minlength=labels)
    mean = np.bincount(label, influence, labels) / np.maximum(n, 1)
    squares = np.bincount(label, (influence - mean[label]) ** 2, labels)
    return float((squares * n / np.maximum(n - 1, 1)).sum())


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
