"""Cohen's d with unweighted variances, by its definition over the drawn activations."""

from __future__ import annotations

import numpy as np
import pytest

from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.store import Run, queries
from tegakari.store.queries.unweighted_d import unweighted_d
from tests.support.factories import LABELS, UNEVEN_COUNTS, random_case


@pytest.mark.parametrize("pooling", POOLINGS)
def test_unweighted_d_is_that_of_the_definition(uneven_run: Run, pooling: Pooling):
    case = random_case(documents_per_label=UNEVEN_COUNTS)
    document_label = np.array([document.label_id for document in case.documents])
    compared = 0
    for label_id, name in enumerate(LABELS):
        for row in queries.label_features(uneven_run, name, pooling=pooling, limit=1000).items:
            values = case.pooled(row.layer, pooling)[:, row.feature].astype(np.float64)
            own, rest = values[document_label == label_id], values[document_label != label_id]
            sd = np.sqrt((own.var(ddof=1) + rest.var(ddof=1)) / 2)
            assert row.cohens_d_unweighted == pytest.approx((own.mean() - rest.mean()) / sd, rel=1e-4, abs=1e-5)
            assert row.documents_active == (own > 0).sum()
            detail = queries.feature_labels(uneven_run, row.layer, row.feature, pooling=pooling).items
            (same,) = (other for other in detail if other.label == name)
            assert (same.cohens_d_unweighted, same.documents_active) == (row.cohens_d_unweighted, row.documents_active)
            compared += 1
    assert compared > 100


def test_two_of_120_documents_are_a_large_d_and_a_small_unweighted_one():
    """The example of `unweighted_d`: 107 labels, 12,650 documents."""
    own = np.zeros(120)
    own[:2] = 1
    n, total = 120, 12_650
    mean_all = own.sum() / total
    sd_all = np.sqrt((own.sum() - total * mean_all**2) / (total - 1))
    d = unweighted_d(own.mean(), own.std(ddof=1), n, mean_all, sd_all, total)
    assert d == pytest.approx(0.18, abs=0.01)
    weighted = own.mean() / np.sqrt((n - 1) * own.var(ddof=1) / (total - 2))
    assert weighted == pytest.approx(1.34, abs=0.02)


def test_unweighted_d_is_undefined_without_variance_and_without_documents():
    mean = np.array([0.0, 2.0, 2.0])
    assert np.isnan(
        unweighted_d(mean, np.zeros(3), 10, np.array([0.0, 2.0, 0.2]), np.array([0.0, 0.0, 0.6030]), 100)
    ).all()
    assert np.isnan(unweighted_d(mean, np.ones(3), 1, mean, np.ones(3), 100)).all()
    assert np.isnan(unweighted_d(mean, np.ones(3), 99, mean, np.ones(3), 100)).all()
