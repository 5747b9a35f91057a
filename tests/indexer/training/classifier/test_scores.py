"""Scores against formulas by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_recall_fscore_support

from tegakari.indexer.training.classifier import macro_f1_by_prefix
from tegakari.indexer.training.classifier.scores import score
from tegakari.schemas.classifier import LabelScore


def test_scores_computed_by_hand():
    scores = score(["a-x", "a-y", "b"], np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0]))
    assert scores.accuracy == pytest.approx(3 / 5)
    # F1: a-x has precision and recall 1/2; a-y precision 2/3 and recall 1; b has no correct prediction.
    assert [row.f1 for row in scores.labels] == pytest.approx([0.5, 0.8, 0.0])
    assert [row.precision for row in scores.labels] == pytest.approx([0.5, 2 / 3, 0.0])
    assert [row.recall for row in scores.labels] == pytest.approx([0.5, 1.0, 0.0])
    assert [row.support for row in scores.labels] == [2, 2, 1]
    assert scores.macro_f1 == pytest.approx(1.3 / 3)
    assert scores.macro_f1_by_prefix == {"a": pytest.approx(0.65)}
    assert [(c.label, c.predicted, c.documents) for c in scores.confusion] == [
        ("a-x", "a-x", 1),
        ("a-x", "a-y", 1),
        ("a-y", "a-y", 2),
        ("b", "a-x", 1),
    ]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=60))
def test_scores_are_scikit_learns(pairs: list[tuple[int, int]]):
    true, predicted = map(np.array, zip(*[*pairs, *((label, label) for label in range(5))], strict=True))
    scores = score([f"label {label}" for label in range(5)], true, predicted)
    assert scores.macro_f1 == pytest.approx(f1_score(true, predicted, average="macro"))
    assert [row.f1 for row in scores.labels] == pytest.approx(precision_recall_fscore_support(true, predicted)[2])
    assert sum(count.documents for count in scores.confusion) == len(true)
    assert all(count.documents > 0 for count in scores.confusion)


def test_a_prefix_is_shared_by_at_least_two_labels():
    rows = [
        LabelScore(label=label, precision=0, recall=0, f1=f1, support=1)
        for label, f1 in (("a-x-1", 1.0), ("a-y", 0.5), ("b", 0.1), ("b-z", 0.2), ("-", 0.3), ("-q", 0.5))
    ]
    assert macro_f1_by_prefix(rows) == {"": 0.4, "a": 0.75}
    assert macro_f1_by_prefix(rows, separator="-x") == {}
