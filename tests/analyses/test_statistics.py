"""Bootstrap intervals against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tegakari.analyses.statistics import SAMPLES, difference_interval, mean_interval, statistic_interval

VALUES = np.random.default_rng(0).exponential(size=400)
OTHERS = np.random.default_rng(1).exponential(1.5, size=300)


def scipy_interval(data: tuple[np.ndarray, ...], statistic: object) -> tuple[float, float]:
    found = stats.bootstrap(data, statistic, n_resamples=20 * SAMPLES, method="percentile", rng=0, batch=1000)
    return found.confidence_interval


def test_a_mean():
    expected = scipy_interval((VALUES,), np.mean)
    assert mean_interval(VALUES, 0) == pytest.approx(expected, abs=0.01)
    assert statistic_interval(lambda members: float(VALUES[members].mean()), len(VALUES), 0) == pytest.approx(
        expected, abs=0.01
    )


def test_a_difference():
    def difference(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return b.mean(axis) - a.mean(axis)

    expected = scipy_interval((VALUES, OTHERS), difference)
    assert difference_interval(VALUES, OTHERS, 0) == pytest.approx(expected, abs=0.02)


def test_the_same_seed_gives_the_same_and_pieces_make_no_difference(monkeypatch: pytest.MonkeyPatch):
    whole = mean_interval(VALUES, 3)
    assert whole == mean_interval(VALUES, 3)
    assert whole != mean_interval(VALUES, 4)
    monkeypatch.setattr("tegakari.analyses.statistics._VALUES_PER_BLOCK", 7 * len(VALUES))
    assert mean_interval(VALUES, 3) == whole


def test_what_does_not_vary_and_what_is_not_there():
    assert mean_interval(np.ones(5), 0) == (1, 1)
    assert np.isnan(mean_interval(np.empty(0), 0)).all()
    assert np.isnan(statistic_interval(lambda _: 1.0, 0, 0)).all()
