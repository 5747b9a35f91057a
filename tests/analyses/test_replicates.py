"""Interval of the difference between groups of replicates: against scipy, an analysis of variance, and its coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_ind

from benchmarks.truth import replicates
from tegakari.analyses.replicates import Group, difference_of_groups


def test_without_common_items_it_is_welchs_interval():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=3), rng.normal(2, 3, 5)
    interval = difference_of_groups(Group(a, np.empty((0, 3))), Group(b, np.empty((0, 5))), 0)
    expected = ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert interval.value == pytest.approx(b.mean() - a.mean())
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_the_variance_of_items_is_that_of_a_two_way_analysis_of_variance():
    """Width from mean squares of the tables [runs, items], which share no code with the bootstrap."""
    rng = np.random.default_rng(1)
    n, tables = 60, [rng.normal(size=n_runs)[:, None] * 0.2 + rng.normal(size=(n_runs, 60)) for n_runs in (3, 4)]
    tables[1] += rng.normal(0, 1.5, n)
    weights = rng.multinomial(n, np.full(n, 1 / n), 40_000) / n
    groups = [Group(table.mean(1), weights @ table.T) for table in tables]
    interval = difference_of_groups(*groups, n)
    training = [table.mean(1).var(ddof=1) / len(table) for table in tables]
    residuals = [table - table.mean(1)[:, None] - table.mean(0) + table.mean() for table in tables]
    interaction = sum((residual**2).sum() / (len(residual) - 1) / (n - 1) / len(residual) / n for residual in residuals)
    items = (tables[1].mean(0) - tables[0].mean(0)).var(ddof=1) / n - interaction
    variance = sum(training) + items
    df = variance**2 / (training[0] ** 2 / 2 + training[1] ** 2 / 3 + items**2 / (n - 1))
    from scipy.stats import t

    assert (interval.high - interval.low) / 2 == pytest.approx(t.ppf(0.975, df) * variance**0.5, rel=0.01)


def test_equal_runs_have_an_interval_of_width_0():
    group = Group(np.ones(2), np.ones((10, 2)))
    interval = difference_of_groups(group, group, 5)
    assert (interval.low, interval.value, interval.high) == (0, 0, 0)


def test_intervals_cover_the_true_difference():
    """Over all numbers of replicates and sources of the spread; a bootstrap over items alone covers 0 to 60 %."""
    rows = replicates.simulate(seeds=30)
    assert 0.92 < np.mean([row.value for row in rows]) < 0.985
    assert min(row.value for row in rows) > 0.75
