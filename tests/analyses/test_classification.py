"""Classification agrees with sklearn on the predictions of a run."""

from __future__ import annotations

import math

import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, f1_score

from tegakari.analyses.classification import classification, majority_macro_f1
from tegakari.store import Run
from tests.support.factories import Case


def test_scores_agree_with_sklearn(random_run: tuple[Run, Case]):
    run, _ = random_run
    rows = run.rows("SELECT label_id, predicted_id FROM documents")
    expected, predicted = ([row[name] for row in rows] for name in ("label_id", "predicted_id"))
    result = classification(run)
    assert result.macro_f1.value == pytest.approx(
        f1_score(expected, predicted, average="macro", labels=sorted(set(expected)))
    )
    assert result.accuracy.value == pytest.approx(accuracy_score(expected, predicted))
    assert result.macro_f1.low < result.macro_f1.value < result.macro_f1.high
    assert (result.documents, result.labels) == (len(rows), len(set(expected)))
    assert result.baseline_macro_f1 is None
    assert classification(run) == result


def test_the_width_of_an_interval_is_that_of_the_normal_approximation(random_run: tuple[Run, Case]):
    result = classification(random_run[0])
    spread = math.sqrt(result.accuracy.value * (1 - result.accuracy.value) / result.documents)
    assert result.accuracy.high - result.accuracy.low == pytest.approx(2 * 1.96 * spread, rel=0.05)


def test_the_most_frequent_label_as_a_baseline_agrees_with_sklearn(random_run: tuple[Run, Case]):
    rows = random_run[0].rows("SELECT label_id FROM documents ORDER BY document")
    expected = [row["label_id"] for row in rows]
    predicted = DummyClassifier(strategy="most_frequent").fit(expected, expected).predict(expected)
    assert majority_macro_f1(random_run[0]) == pytest.approx(f1_score(expected, predicted, average="macro"))
