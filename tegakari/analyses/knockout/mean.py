"""Means over the labels whose knockout is beyond its control."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tegakari.analyses.statistics import small_sample_interval
from tegakari.schemas.analysis import Interval
from tegakari.schemas.knockout import KnockoutMean, KnockoutResult

CHANCE = 0.065
"""Largest share of knockouts without an effect that are beyond their control, in simulations: 2.5 % of an interval's
side, more where the effects of control sets are skewed because recall cannot rise above 1."""

MAX_PROBABILITY = 0.025
"""Largest probability that a mean is shown where no label has an effect."""


def knockout_mean(results: Sequence[KnockoutResult]) -> KnockoutMean:
    """Mean effect of knockouts of different labels in one run.

    Args:
        results: of one run, one per label.
    """
    effects = [result for result in results if result.beyond_control]
    net = [result.net for result in results if result.net]
    shown = len(net) == len(results) and is_shown(len(effects), np.array([effect.value for effect in net]))
    return KnockoutMean(
        labels=len(results),
        beyond_control=len(effects),
        by_margin_alone=sum(result.by_margin_alone for result in results),
        shown=shown,
        points=_mean([Interval(value=row.delta, low=row.delta_low, high=row.delta_high) for row in effects])
        if shown
        else None,
        net=_mean([row.net for row in effects if row.net]) if shown else None,
        net_of_all=_mean(net) if len(net) == len(results) > 1 else None,
    )


def is_shown(beyond: int, net: np.ndarray) -> bool:
    """Whether a mean of the labels beyond their control is shown.

    Of 16 labels without an effect, one may well be beyond its control. So more labels have to be than chance makes (4
    of 16), and the mean net effect of all labels has to be below 0. A single label that is beyond its control counts:
    its mean is its own effect.

    Args:
        beyond: labels beyond their control.
        net: net effects of all labels, float64 [labels].
    """
    from scipy.special import bdtrc

    labels = len(net)
    if beyond == 0 or labels == 1:
        return beyond > 0
    more_than_chance = float(bdtrc(beyond - 1, labels, CHANCE)) <= MAX_PROBABILITY
    return more_than_chance and small_sample_interval(net).high < 0


def _mean(effects: Sequence[Interval]) -> Interval:
    """Mean with an interval over labels; of a single label, its own."""
    if len(effects) == 1:
        return effects[0]
    return small_sample_interval(np.array([effect.value for effect in effects]))
