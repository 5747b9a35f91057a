"""False discovery rate of features: against plain Python, and on layers whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from benchmarks.truth.specificity import simulate
from tegakari.analyses.label_d import PooledActivations, label_d
from tegakari.analyses.specificity.best_labels import LayerActivations, best_labels
from tegakari.analyses.specificity.false_discovery import Tail, q_values, tail, varying_documents


def sparse(values: np.ndarray) -> LayerActivations:
    feature, document = np.nonzero(values.T)
    first = np.searchsorted(feature, np.arange(values.shape[1] + 1))
    return LayerActivations(len(values), first, document.astype(np.int32), values[document, feature])


@pytest.fixture
def values() -> np.ndarray:
    generator = np.random.default_rng(0)
    density = generator.uniform(0.05, 1, 60)
    density[:3] = 0, 1, 1
    active = generator.random((90, 60)) < density
    values = np.where(active, generator.lognormal(0, 1, active.shape), 0).astype(np.float32)
    values[:, 1] = 2  # without variance
    return values


def test_best_labels_are_those_of_d(values: np.ndarray):
    generator = np.random.default_rng(1)
    assignments = generator.integers(-1, 7, (45, 90))  # -1: left out; one label may have few documents
    assignments[0, assignments[0] == 6] = 5  # a label without documents
    best = best_labels(sparse(values), assignments, 7, 0.3, np.arange(60))
    document, feature = np.nonzero(values)
    pooled = PooledActivations(*values.shape, document, feature, values[document, feature].astype(np.float64))
    for number, label in enumerate(assignments):
        d = np.nan_to_num(label_d(pooled, label, 7), nan=-np.inf)
        np.testing.assert_allclose(best.d[number], d.max(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(best.variety[number], (d > 0.3).sum(0))
        carried = best.variety[number] > 0
        np.testing.assert_array_equal(best.label[number][carried], d.argmax(0)[carried])
        active = (values > 0) & (label[:, None] == d.argmax(0))
        np.testing.assert_array_equal(best.active[number], np.where(carried, active.sum(0), 0))


def test_varying_documents_are_documents_by_kurtosis(values: np.ndarray):
    kurtosis = scipy.stats.kurtosis(values[:, 2:].astype(np.float64), fisher=False)
    np.testing.assert_allclose(varying_documents(sparse(values))[2:], 90 / kurtosis, rtol=1e-6)
    one, few = np.zeros((1000, 1), np.float32), np.zeros((1000, 1), np.float32)
    one[0], few[:5] = 3, 2
    assert varying_documents(sparse(one))[0] == pytest.approx(1, rel=0.01)
    assert varying_documents(sparse(few))[0] == pytest.approx(5, rel=0.02)
    assert varying_documents(sparse(values))[0] == 0  # never active


def test_p_values_count_the_permuted_d_of_the_stratum():
    generator = np.random.default_rng(2)
    null, d = generator.gamma(4, 0.2, (25, 30)).astype(np.float32), generator.gamma(6, 0.2, 30).astype(np.float32)
    d[3] = null[7, 5]  # a tie counts as large
    result = tail(np.arange(100, 130), np.ones(30), d, null, 1.0)
    expected = {
        100 + place: ((null >= value).sum() + 1) / (null.size + 1) for place, value in enumerate(d) if value > 1
    }
    assert dict(zip(result.feature.tolist(), result.p.tolist(), strict=True)) == pytest.approx(expected)
    assert len(result.null_p) == (null > 1).sum()
    np.testing.assert_array_equal(np.bincount(result.permutation, minlength=25), (null > 1).sum(1))


def test_q_values_are_the_smallest_rate_of_a_set_with_the_feature():
    generator = np.random.default_rng(3)
    tails = [
        Tail(np.arange(n), generator.beta(0.3, 3, n), generator.random(4 * n), generator.integers(0, 40, 4 * n))
        for n in (30, 0, 50)
    ]
    q = q_values(tails, 40)
    p = np.concatenate([tail.p for tail in tails])
    null = [np.concatenate([tail.null_p[tail.permutation == number] for tail in tails]) for number in range(40)]

    def rate(limit: float) -> float:
        counts = [(values <= limit).sum() for values in null]
        mean = (sum(counts) + 1) / 40
        return min(1.0, (mean + max(np.var(counts), mean) ** 0.5) / (p <= limit).sum())

    expected = [min(rate(limit) for limit in p if limit >= own) for own in p]
    assert [len(part) for part in q] == [30, 0, 50]
    assert np.concatenate(q) == pytest.approx(expected)


def test_labels_without_meaning_have_no_significant_feature_and_planted_ones_do():
    rows = simulate(5)
    for row in rows:
        if row.at_most is not None:
            assert row.value <= row.at_most + 0.03, row  # a mean over 3 layers
        if row.at_least is not None:
            assert row.value >= row.at_least - 0.1, row
    assert max(row.value for row in rows if row.figure.startswith("share of features with d > 1")) > 0.1
