"""Knockouts: coverage of the intervals of points lost and of net effects, and claims where no label has an effect."""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import numpy as np

from benchmarks.truth.row import Row
from tegakari.analyses.knockout.mean import is_shown
from tegakari.analyses.statistics import (
    mean_interval,
    net_change_interval,
    net_mean_interval,
    share_change_interval,
    small_sample_interval,
)

DOCUMENTS = (10, 40, 120)
LOSSES = (1, 3, 10, 50, 98)
"""true losses, points"""
GAIN = 0.002
"""Share of documents that are predicted right only after the knockout."""
DRAWS = 5
LABELS = 16
RECALL = 0.9
SPREADS = (0.0, 5.0)
"""Standard deviation of the effect of a set of features that carries no label, points."""
MEAN_CONTROL = -2.0
"""Its mean, points."""
MARGIN_LOSSES = (0.0, 1.0, 4.0)
"""true losses of margin, logits"""
MARGIN_SPREADS = (0.0, 0.2)
"""Standard deviation of the effect of a set that carries no label on the margin, logits."""


def simulate(seeds: int) -> list[Row]:
    """Coverage and false claims.

    Args:
        seeds: samples per case; of net effects a quarter, and a tenth as many runs of 16 labels without an effect.
    """
    return [
        *points_lost(seeds),
        *net_effects(max(seeds // 4, 10)),
        *net_margins(seeds),
        *means(seeds),
        *no_effect(max(seeds // 10, 10)),
    ]


def points_lost(seeds: int) -> list[Row]:
    """Coverage of the interval of points lost; below, that of a percentile bootstrap, for comparison."""
    rows = []
    for n in DOCUMENTS:
        for loss in LOSSES:
            generator = np.random.default_rng((n, loss))
            share_lost = min(loss / 100 + GAIN, 1 - GAIN)
            counts = generator.multinomial(n, [share_lost, GAIN, max(1 - share_lost - GAIN, 0)], seeds)
            truth = GAIN - share_lost
            for figure, interval, at_least in (
                ("points lost", _score_interval, 0.9),
                ("points lost, by bootstrap", _bootstrap_interval, None),
            ):
                ends = np.array([interval(n, int(lost), int(gained)) for lost, gained, _ in counts])
                covered = float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean())
                rows.append(Row(figure, f"{n} documents, -{loss} points", covered, at_least, None, seeds))
    return rows


def net_effects(seeds: int) -> list[Row]:
    """Coverage of the interval of the net effect."""
    rows = []
    for n in DOCUMENTS:
        for spread in SPREADS:
            for loss in LOSSES:
                generator = np.random.default_rng((n, int(spread), loss))
                truth = _expected_recall(-loss, spread) - _expected_recall(0, spread)
                covered = 0
                for _ in range(seeds):
                    net = net_change_interval(*_sample(generator, n, -loss, spread))
                    covered += net.low <= truth <= net.high
                case = f"{n} documents, -{loss} points, sets ± {spread:g}"
                rows.append(Row("net effect", case, covered / seeds, 0.9, None, seeds))
    return rows


def net_margins(seeds: int) -> list[Row]:
    """Coverage of the interval of the net margin; documents lose a skewed (exponential) part, sets a normal one."""
    rows = []
    for n in DOCUMENTS:
        for spread in MARGIN_SPREADS:
            for loss in MARGIN_LOSSES:
                generator = np.random.default_rng((n, round(10 * spread), round(loss)))
                covered = 0
                for _ in range(seeds):
                    before = generator.normal(2, 2, n)
                    sets = generator.normal(0, 1, (DRAWS + 1, 1)) * spread + generator.normal(0, 0.3, (DRAWS + 1, n))
                    net = net_mean_interval(before + sets[0] - loss * generator.exponential(1, n), before + sets[1:])
                    covered += net.low <= -loss <= net.high
                case = f"{n} documents, -{loss:g} logits, sets ± {spread:g}"
                rows.append(Row("net margin", case, covered / seeds, 0.9, None, seeds))
    return rows


def means(seeds: int) -> list[Row]:
    """Coverage of the interval of a mean over labels, whose effects are between 0 and -100 points."""
    rows = []
    for labels, at_least in ((3, 0.85), (7, 0.9), (16, 0.9)):
        generator = np.random.default_rng(labels)
        intervals = [small_sample_interval(-generator.beta(2, 1, labels)) for _ in range(seeds)]
        covered = np.mean([interval.low <= -2 / 3 <= interval.high for interval in intervals])
        rows.append(Row("mean over labels", f"{labels} labels", float(covered), at_least, None, seeds))
    return rows


def no_effect(runs: int) -> list[Row]:
    """Share of knockouts beyond their control, and of runs with a mean effect, where features carry no label."""
    rows = []
    for n in (20, 40, 120):
        for spread in (*SPREADS, 15.0):
            generator = np.random.default_rng((n, int(spread)))
            net = [[net_change_interval(*_sample(generator, n, 0, spread)) for _ in range(LABELS)] for _ in range(runs)]
            beyond = np.array([[effect.high < 0 for effect in of_run] for of_run in net])
            shown = np.mean(
                [
                    is_shown(int(number), np.array([effect.value for effect in of_run]))
                    for number, of_run in zip(beyond.sum(1), net, strict=True)
                ]
            )
            case = f"{n} documents, {LABELS} labels, sets ± {spread:g}"
            rows.append(Row("beyond control without effect", case, float(beyond.mean()), None, 0.07, beyond.size))
            rows.append(Row("mean shown without effect", case, float(shown), None, 0.05, runs))
    return rows


@cache
def _score_interval(n: int, lost: int, gained: int) -> tuple[float, float]:
    return share_change_interval(*_predictions(n, lost, gained))


@cache
def _bootstrap_interval(n: int, lost: int, gained: int) -> tuple[float, float]:
    before, after = _predictions(n, lost, gained)
    return mean_interval(after.astype(float) - before, 0)


def _predictions(n: int, lost: int, gained: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether n documents are predicted right before and after."""
    number = np.arange(n)
    return number < n - gained, number >= lost


def _sample(generator: np.random.Generator, n: int, effect: float, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Whether documents are predicted right without a label's features, bool [n], and without control sets [J, n].

    Each set has an effect of its own, a share of the documents that it changes; the label's set has `effect` points
    more. The same documents are right with all features.
    """
    before = generator.random(n) < RECALL
    effects = np.clip((MEAN_CONTROL + generator.normal(0, 1, DRAWS + 1) * spread) / 100, -1, 1)
    effects[0] = np.clip(effects[0] + effect / 100, -1, 1)
    changed = generator.random((DRAWS + 1, n)) < abs(effects)[:, None]
    right = np.where(changed, effects[:, None] > 0, before)
    return right[0], right[1:]


def _expected_recall(effect: float, spread: float) -> float:
    """Expected recall without a set of the distribution of `_sample`."""
    normal = np.array([NormalDist().inv_cdf((number + 0.5) / 2000) for number in range(2000)])
    effects = np.clip(np.clip((MEAN_CONTROL + normal * spread) / 100, -1, 1) + effect / 100, -1, 1)
    return float(np.where(effects > 0, RECALL + (1 - RECALL) * effects, RECALL * (1 + effects)).mean())
