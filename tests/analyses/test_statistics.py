"""Bootstrap intervals against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.metrics import f1_score

from tegakari.analyses.statistics import (
    SAMPLES,
    Predictions,
    balanced_accuracy,
    interval_of_macro_f1,
    interval_of_share,
    macro_f1_difference,
    mean_interval,
    mean_share_interval,
    net_change_interval,
    net_mean_interval,
    share_change_interval,
    share_ratio_interval,
    small_sample_interval,
    statistic_interval,
)

VALUES = np.random.default_rng(0).exponential(size=400)


def scipy_interval(data: tuple[np.ndarray, ...], statistic: object) -> tuple[float, float]:
    bootstrap = stats.bootstrap(data, statistic, n_resamples=20 * SAMPLES, method="percentile", rng=0, batch=1000)
    return bootstrap.confidence_interval


def test_the_interval_of_a_mean_is_scipys():
    expected = scipy_interval((VALUES,), np.mean)
    assert mean_interval(VALUES, 0) == pytest.approx(expected, abs=0.01)
    assert statistic_interval(lambda rows: float(VALUES[rows].mean()), len(VALUES), 0) == pytest.approx(
        expected, abs=0.01
    )


def test_an_interval_depends_on_the_seed_and_not_on_the_block_size(monkeypatch: pytest.MonkeyPatch):
    whole = mean_interval(VALUES, 3)
    assert whole == mean_interval(VALUES, 3)
    assert whole != mean_interval(VALUES, 4)
    monkeypatch.setattr("tegakari.analyses.statistics._VALUES_PER_BLOCK", 7 * len(VALUES))
    assert mean_interval(VALUES, 3) == whole


def test_constant_values_and_no_values():
    assert mean_interval(np.ones(5), 0) == (1, 1)
    assert np.isnan(mean_interval(np.empty(0), 0)).all()
    assert np.isnan(statistic_interval(lambda _: 1.0, 0, 0)).all()


@pytest.mark.parametrize(("n", "gained", "lost"), [(44, 1, 9), (40, 0, 39), (120, 0, 1), (10, 3, 3)])
def test_the_ends_of_the_interval_of_a_change_of_a_share_have_scores_of_a_normal_quantile(
    n: int, gained: int, lost: int
):
    def score(change: float) -> float:
        """With the likelihood of the other share maximised numerically, under the change."""

        def minus_log_likelihood(share_lost: float) -> float:
            shares = np.array([share_lost + change, share_lost, 1 - 2 * share_lost - change])
            counts = np.array([gained, lost, n - gained - lost])
            return -np.sum(counts * np.log(np.clip(shares, 1e-300, None)))

        bounds = (max(0.0, -change), (1 - change) / 2)
        share = optimize.minimize_scalar(minus_log_likelihood, bounds=bounds, options={"xatol": 1e-12}).x
        return (gained - lost - n * change) / np.sqrt(n * (2 * share + change - change**2))

    before, after = np.zeros(n, bool), np.zeros(n, bool)
    before[:lost] = True
    after[lost : lost + gained] = True
    low, high = share_change_interval(before, after)
    assert low < (gained - lost) / n < high
    assert score(low) == pytest.approx(1.95996, abs=1e-3)
    assert score(high) == pytest.approx(-1.95996, abs=1e-3)


def test_the_interval_of_a_share_that_does_not_change_has_a_width():
    z = 1.959964
    ends = share_change_interval(np.ones(50, bool), np.ones(50, bool))
    assert ends == pytest.approx((-(z**2) / (50 + z**2), z**2 / (50 + z**2)), abs=1e-5)


@pytest.mark.parametrize(
    ("both", "gained", "lost", "neither"), [(30, 1, 9, 4), (2, 0, 37, 1), (3, 5, 4, 20), (12, 6, 0, 2)]
)
def test_the_ends_of_the_interval_of_a_ratio_of_shares_have_scores_of_a_normal_quantile(
    both: int, gained: int, lost: int, neither: int
):
    """The score is evaluated with the maximum of the likelihood under each ratio, found numerically."""
    n = both + gained + lost + neither
    group = np.repeat(np.arange(4), [both, gained, lost, neither])
    before, after = (group == 0) | (group == 2), group <= 1

    def score(ratio: float) -> float:
        def shares(free: np.ndarray) -> np.ndarray:
            """Shares of the four groups whose ratio of after to before is the hypothetical one."""
            share_before = free[0] * min(1.0, 1 / ratio)
            smallest = max(0.0, share_before * (1 + ratio) - 1)
            share_both = smallest + free[1] * (min(share_before, ratio * share_before) - smallest)
            gains, losses = ratio * share_before - share_both, share_before - share_both
            return np.clip([share_both, gains, losses, 1 - share_both - gains - losses], 1e-300, 1)

        counts = np.array([both, gained, lost, neither])
        fits = [
            optimize.minimize(
                lambda free: -(counts * np.log(shares(free))).sum(),
                start,
                bounds=[(1e-9, 1 - 1e-9)] * 2,
                method="Nelder-Mead",
                options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 4000},
            )
            for start in ([0.5, 0.5], [0.8, 0.9], [0.9, 0.2])
        ]
        _, gain, loss, _ = shares(min(fits, key=lambda fit: fit.fun).x)
        return (after.mean() - ratio * before.mean()) / np.sqrt(ratio * (gain + loss) / n)

    low, high = share_ratio_interval(before, after)
    assert low <= after.mean() / before.mean() <= high
    assert score(low) == pytest.approx(1.95996, abs=1e-3)
    assert score(high) == pytest.approx(-1.95996, abs=1e-3)


def test_the_interval_of_a_ratio_of_equal_shares_has_a_width():
    before = np.arange(50) < 40
    low, high = share_ratio_interval(before, before)
    assert (low, high) == pytest.approx((40 / (40 + 1.959964**2), 1 + 1.959964**2 / 40), abs=1e-5)
    low, high = share_ratio_interval(before, np.zeros(50, bool))
    assert low == 0
    assert 0 < high < 0.2
    assert np.isnan(share_ratio_interval(np.zeros(3, bool), np.ones(3, bool))).all()


@pytest.mark.parametrize("hits", [0, 1, 17, 40])
def test_the_interval_of_a_share_is_scipys(hits: int):
    interval = interval_of_share(np.arange(40) < hits)
    expected = stats.binomtest(hits, 40).proportion_ci(method="wilson")
    assert (interval.value, interval.low, interval.high) == pytest.approx((hits / 40, expected.low, expected.high))


def predictions(generator: np.random.Generator, per_label: int, labels: int, accuracy: float) -> Predictions:
    expected = np.repeat(np.arange(labels), per_label)
    other = (expected + generator.integers(1, labels, len(expected))) % labels
    return Predictions(expected, np.where(generator.random(len(expected)) < accuracy, expected, other), labels)


@pytest.mark.parametrize("accuracy", [0.6, 0.97])
@pytest.mark.parametrize("per_label", [10, 120])
def test_the_interval_of_macro_f1_covers_it(accuracy: float, per_label: int):
    generator = np.random.default_rng(0)
    intervals = [interval_of_macro_f1(*predictions(generator, per_label, 6, accuracy)) for _ in range(400)]
    covered = np.mean([interval.low <= accuracy <= interval.high for interval in intervals])  # macro-F1 = accuracy here
    assert 0.92 <= covered <= 0.995


def test_the_interval_of_macro_f1_has_the_width_of_the_bootstrap_over_documents_of_each_label():
    expected, predicted, labels = predictions(np.random.default_rng(1), 100, 5, 0.7)
    generator = np.random.default_rng(2)
    samples = []
    for _ in range(1000):
        rows = np.concatenate([generator.choice(np.flatnonzero(expected == label), 100) for label in range(labels)])
        samples.append(f1_score(expected[rows], predicted[rows], average="macro"))
    interval = interval_of_macro_f1(expected, predicted, labels)
    assert interval.value == pytest.approx(f1_score(expected, predicted, average="macro"))
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.std(samples), rel=0.1)


def test_the_interval_of_a_difference_of_macro_f1_covers_it_for_classes_of_other_numbers():
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        a, b = (predictions(generator, 20, 6, accuracy) for accuracy in (0.7, 0.85))
        renumbered = Predictions(5 - b.expected, 5 - b.predicted, 6)
        interval = macro_f1_difference(a, renumbered)
        covered.append(interval.low <= 0.15 <= interval.high)
    assert 0.92 <= np.mean(covered) <= 0.985


def test_the_intervals_of_equal_predictions_have_a_width():
    right = Predictions(np.repeat(np.arange(4), 10), np.repeat(np.arange(4), 10), 4)
    difference, score = macro_f1_difference(right, right), interval_of_macro_f1(*right)
    assert difference.low < 0 < difference.high
    assert 0.9 < score.low < score.value == score.high == 1


def test_net_effects_add_the_variance_of_documents_and_of_draws():
    generator = np.random.default_rng(3)
    after, controls = generator.random(50) < 0.4, generator.random((4, 50)) < 0.8
    interval = net_change_interval(after, controls)
    of_draws = [after.mean() - control.mean() for control in controls]
    tango = [share_change_interval(control, after) for control in controls]
    spread = stats.t.ppf(0.975, 3) * np.std(of_draws, ddof=1) * np.sqrt(1 + 1 / 4)
    below = np.mean([net - low for net, (low, _) in zip(of_draws, tango, strict=True)])
    above = np.mean([high - net for net, (_, high) in zip(of_draws, tango, strict=True)])
    assert interval.value == pytest.approx(np.mean(of_draws))
    assert interval.low == pytest.approx(interval.value - np.sqrt(below**2 + spread**2))
    assert interval.high == pytest.approx(interval.value + np.sqrt(above**2 + spread**2))
    same = net_change_interval(after, np.stack([controls[0]] * 3))  # without spread of the draws, Tango's interval
    assert (same.low, same.high) == pytest.approx(share_change_interval(controls[0], after))


def test_net_means_add_the_variance_of_items_and_of_draws():
    generator = np.random.default_rng(5)
    after, controls = generator.normal(1, 1, 30), generator.normal(2, 1, (4, 30))
    interval = net_mean_interval(after, controls)
    paired = stats.ttest_rel(after, controls.mean(0)).confidence_interval(0.95)
    of_items = (paired.high - paired.low) / 2
    of_draws = stats.t.ppf(0.975, 3) * stats.tstd(controls.mean(1)) * np.sqrt(1 + 1 / 4)
    assert interval.value == pytest.approx(after.mean() - controls.mean())
    assert interval.value - interval.low == pytest.approx(np.hypot(of_items, of_draws))
    assert interval.high - interval.value == pytest.approx(np.hypot(of_items, of_draws))
    same = net_mean_interval(after, np.stack([controls[0]] * 3))
    assert (same.low, same.high) == pytest.approx(stats.ttest_rel(after, controls[0]).confidence_interval(0.95))


def test_a_net_effect_stays_within_its_range():
    interval = net_change_interval(np.zeros(12, bool), np.random.default_rng(0).random((2, 12)) < 0.5)
    assert -1 <= interval.low < interval.high <= 1


def test_small_samples_have_the_interval_of_student():
    values = np.random.default_rng(1).normal(size=5)
    interval = small_sample_interval(values)
    expected = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(expected)


def test_the_interval_of_a_mean_share_over_draws_is_wilsons_and_students_in_quadrature():
    one = stats.binomtest(34, 40).proportion_ci(method="wilson")
    alone = mean_share_interval([0.85], 40)
    assert (alone.value, alone.low, alone.high) == pytest.approx((0.85, one.low, one.high))
    draws = [0.85, 0.9, 0.8, 0.875, 0.825]
    student = stats.t.interval(0.95, 4, loc=np.mean(draws), scale=stats.sem(draws))
    interval = mean_share_interval(draws, 40)
    assert interval.low == pytest.approx(0.85 - np.hypot(0.85 - one.low, 0.85 - student[0]))
    assert interval.high == pytest.approx(0.85 + np.hypot(one.high - 0.85, student[1] - 0.85))
    assert mean_share_interval([1.0, 1.0], 10).high == 1


@pytest.mark.parametrize(("hits", "rejections"), [((7, 10), (9, 10)), ((10, 10), (10, 10)), ((0, 5), (3, 20))])
def test_the_interval_of_a_balanced_accuracy_is_newcombes(hits: tuple[int, int], rejections: tuple[int, int]):
    """By statistics' other way: the difference of two shares, whose Wilson ends are roots of the score equation."""

    def wilson(successes: int, n: int) -> tuple[float, float]:
        interval = stats.binomtest(successes, n).proportion_ci(method="wilson")
        return interval.low, interval.high

    def array(successes: int, n: int) -> np.ndarray:
        return np.arange(n) < successes

    p, q = hits[0] / hits[1], 1 - rejections[0] / rejections[1]
    (p_low, p_high), (q_low, q_high) = wilson(*hits), wilson(rejections[1] - rejections[0], rejections[1])
    low = p - q - np.sqrt((p - p_low) ** 2 + (q_high - q) ** 2)
    high = p - q + np.sqrt((p_high - p) ** 2 + (q - q_low) ** 2)
    interval = balanced_accuracy(array(*hits), array(*rejections))
    assert interval.value == pytest.approx((p - q + 1) / 2)
    assert (interval.low, interval.high) == pytest.approx(((low + 1) / 2, (high + 1) / 2))


def test_the_interval_of_a_balanced_accuracy_covers():
    n, shares = 10, (0.7, 0.9)
    counts = np.arange(n + 1)
    covered = 0.0
    for a in counts:
        for b in counts:
            interval = balanced_accuracy(np.arange(n) < a, np.arange(n) < b)
            probability = stats.binom.pmf(a, n, shares[0]) * stats.binom.pmf(b, n, shares[1])
            covered += probability * (interval.low <= np.mean(shares) <= interval.high)
    assert covered > 0.92
