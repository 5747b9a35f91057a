"""Coverage of the interval of a difference between groups of replicates.

A figure is a mean over items. Its values are drawn from the model that the interval assumes: the effect of a training,
of an item, and of both together. The true difference is 0.
"""

from __future__ import annotations

import numpy as np

from benchmarks.truth.row import Row
from tegakari.analyses.replicates import Group, difference_of_groups

SPREADS = {
    "training alone": (1.0, 0.0, 0.1),
    "training and items": (0.1, 0.5, 0.5),
    "items alone": (0.0, 1.0, 0.3),
    "training and item together": (0.0, 0.0, 1.0),
}
"""Standard deviations of training, item, and their interaction, for a single item."""

REPLICATES = ((2, 2), (3, 3), (2, 5), (5, 5))
ITEMS = (16, 100)
"""As many as labels, and as documents."""

AT_LEAST, AT_MOST = 0.91, 0.985
"""92 to 98 %, and the error of 400 samples."""


SAMPLES = 200
"""Bootstrap samples per interval: a variance hardly depends on their number, and 2,000 take ten times as long."""


def simulate(seeds: int = 400) -> list[Row]:
    """Coverage by number of replicates and source of the spread.

    Args:
        seeds: samples per case.
    """
    rows = []
    for replicates in REPLICATES:
        for items in ITEMS:
            for source, spreads in SPREADS.items():
                generator = np.random.default_rng([*replicates, items])
                covered = [_covers(generator, replicates, items, spreads) for _ in range(seeds)]
                case = f"{replicates[0]} and {replicates[1]} replicates, {items} items, spread by {source}"
                rows.append(Row("difference of replicates", case, float(np.mean(covered)), AT_LEAST, AT_MOST, seeds))
    return rows


def _covers(
    generator: np.random.Generator, replicates: tuple[int, int], items: int, spreads: tuple[float, float, float]
) -> bool:
    """Whether the interval of one sample contains 0."""
    training, item, both = spreads
    weights = generator.multinomial(items, np.full(items, 1 / items), SAMPLES) / items
    groups = []
    for runs in replicates:
        values = (
            generator.normal(0, training, (runs, 1))
            + generator.normal(0, item, items)
            + generator.normal(0, both, (runs, items))
        )
        groups.append(Group(values.mean(1), weights @ values.T))
    interval = difference_of_groups(groups[0], groups[1], items)
    return interval.low <= 0 <= interval.high
