"""Interval of a difference between two groups of replicate runs: it covers the items and the training.

Replicates are runs of one model that were trained with other seeds. The value of run i of group g on item d (a
document, label or concept) is `mean_g + training_gi + item_gd + interaction_gid`. All runs have the same items, so the
variance of the difference of the groups' means has two parts:

- training: `s_a^2 / r_a + s_b^2 / r_b`, where s^2 is the variance of the r values of a group's runs. It contains the
  interaction, because that differs between runs as well.
- items: the bootstrap variance of the difference over the items, without the interaction, which would count twice.

The interval is `D +- t(df) sqrt(training + items)` with the degrees of freedom of Welch and Satterthwaite
(Satterthwaite 1946, Biometrics Bulletin 2, 110-114). Its coverage in simulations: benchmarks/truth/replicates.py.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tegakari.schemas.analysis import Interval

LEVEL = 0.95


class Group(NamedTuple):
    """A figure of the replicates of one model."""

    values: np.ndarray
    """float64 [r], r >= 2: of each run"""
    samples: np.ndarray
    """float64 [S, r]: of each run on S bootstrap samples of the items; row by row the same sample for all runs of both
    groups. S = 0: the runs have no common items"""


def difference_of_groups(a: Group, b: Group, items: int) -> Interval:
    """Mean of b minus mean of a with its 95 % interval.

    Args:
        a: at least two runs.
        b: at least two runs.
        items: number of resampled items.
    """
    from scipy.stats import t  # 0.5 s of CPU, which stored results need not

    difference = float(b.values.mean() - a.values.mean())
    training = [group.values.var(ddof=1) / len(group.values) for group in (a, b)]
    over_items = _item_variance(a, b, items)
    variance = sum(training) + over_items
    if variance == 0:
        return Interval(value=difference, low=difference, high=difference)
    squares = [part**2 / (len(group.values) - 1) for part, group in zip(training, (a, b), strict=True)]
    if over_items > 0:
        squares.append(over_items**2 / (items - 1))
    half = float(t.ppf((1 + LEVEL) / 2, variance**2 / sum(squares)) * np.sqrt(variance))
    return Interval(value=difference, low=difference - half, high=difference + half)


def _item_variance(a: Group, b: Group, items: int) -> float:
    """Variance of the difference that the items bring, without the interaction of items and runs."""
    if len(a.samples) == 0 or items < 2:
        return 0.0
    total = (b.samples.mean(1) - a.samples.mean(1)).var()
    interaction = sum(
        (group.samples - group.samples.mean(1, keepdims=True)).var(0).sum() / (runs - 1) / runs
        for group in (a, b)
        for runs in [len(group.values)]
    )
    return max(0.0, float(total - interaction)) * items / (items - 1)
