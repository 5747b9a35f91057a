"""Label moments and Cohen's d against the textbook formula in float64, and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from tegakari.indexer.cohens_d import LabelStatistics, label_statistics
from tegakari.indexer.moments import merge, moments_of, zero_moments


def statistics(groups: list[np.ndarray]) -> LabelStatistics:
    """Label statistics of groups of documents, each [documents, features]."""
    moments = [moments_of(torch.from_numpy(group)) if len(group) else zero_moments(group.shape[1:]) for group in groups]
    mean, m2 = (np.stack([getattr(part, name).numpy() for part in moments]) for name in ("mean", "m2"))
    result = LabelStatistics(*(np.empty(mean.shape) for _ in range(3)))
    n = np.array([part.n for part in moments])
    whole, _ = label_statistics(n, mean, m2, alive=np.ones(mean.shape[1], bool), cutoffs=[], statistics=result)
    everything = np.concatenate(groups).astype(np.float64)
    np.testing.assert_allclose(whole.mean, everything.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(whole.m2, ((everything - everything.mean(0)) ** 2).sum(0), rtol=1e-9, atol=1e-6)
    return result


def textbook_d(label: np.ndarray, rest: np.ndarray) -> float:
    n, m = len(label), len(rest)
    pooled = ((n - 1) * label.var(ddof=1) + (m - 1) * rest.var(ddof=1)) / (n + m - 2)
    return (label.mean() - rest.mean()) / np.sqrt(pooled)


def test_d_agrees_with_the_textbook_formula():
    rng = np.random.default_rng(0)
    groups = [np.maximum(rng.normal(loc, 2, (n, 7)), 0).astype(np.float32) for loc, n in ((0, 40), (1, 3), (-1, 25))]
    result = statistics(groups)
    for label, members in enumerate(groups):
        rest = np.concatenate([group for other, group in enumerate(groups) if other != label]).astype(np.float64)
        for feature in range(7):
            expected = textbook_d(members[:, feature].astype(np.float64), rest[:, feature])
            assert result.d[label, feature] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(result.mean[0], groups[0].astype(np.float64).mean(0), rtol=1e-13)
    np.testing.assert_allclose(result.sd[2], groups[2].astype(np.float64).std(0, ddof=1), rtol=1e-13)


def test_d_agrees_with_scipys_t():
    """t = d * sqrt(n m / (n + m)) for Student's two-sample test with equal variances."""
    rng = np.random.default_rng(1)
    label, rest = rng.exponential(1, (12, 1)), rng.exponential(2, (30, 1))
    t = stats.ttest_ind(label[:, 0], rest[:, 0], equal_var=True).statistic
    assert statistics([label, rest]).d[0, 0] * np.sqrt(12 * 30 / 42) == pytest.approx(t, rel=1e-10)


def test_a_large_offset_does_not_reduce_accuracy():
    """The sum-of-squares shortcut would lose every digit here."""
    rng = np.random.default_rng(2)
    groups = [1e6 + rng.normal(shift, 1, (50, 1)) for shift in (0.0, 1.0)]
    assert statistics(groups).d[0, 0] == pytest.approx(textbook_d(groups[0][:, 0], groups[1][:, 0]), rel=1e-9)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 7.3e5])
def test_no_variance_and_different_means_is_degenerate(value: float):
    constant = np.full((9, 1), np.float32(value))
    result = statistics([constant, np.zeros((14, 1), np.float32), np.zeros((3, 1), np.float32)])
    assert np.isnan(result.d[0, 0])
    assert np.isfinite(result.d[1, 0])


def test_no_variance_and_equal_means_is_zero():
    result = statistics([np.full((4, 1), 2.5), np.full((6, 1), 2.5)])
    assert result.d[0, 0] == 0.0


def test_labels_with_fewer_than_two_documents_have_no_d():
    rng = np.random.default_rng(3)
    result = statistics([rng.random((1, 2)), rng.random((5, 2)), np.empty((0, 2))])
    assert np.isnan(result.d[0]).all()
    assert np.isnan(result.d[2]).all()
    assert np.isfinite(result.d[1]).all()
    assert np.isnan(result.sd[0]).all()


def test_a_single_label_has_no_d():
    assert np.isnan(statistics([np.random.default_rng(0).random((5, 2))]).d).all()


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(2, 30), st.just(2)), elements=st.floats(0, 1e4, width=32)),
    st.lists(st.integers(0, 30), max_size=4),
)
def test_merged_moments_are_the_moments_of_the_union(values: np.ndarray, cuts: list[int]):
    merged = zero_moments((2,))
    for part in np.split(values, sorted(min(cut, len(values)) for cut in cuts)):
        if len(part):
            merged = merge(merged, moments_of(torch.from_numpy(part)))
    exact = values.astype(np.float64)
    assert merged.n == len(values)
    np.testing.assert_allclose(merged.mean.numpy(), exact.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(merged.m2.numpy(), ((exact - exact.mean(0)) ** 2).sum(0), rtol=1e-9, atol=1e-6)
