"""Classification agrees with sklearn on the predictions of a run."""

from __future__ import annotations

import math

import pytest
from sklearn.metrics import accuracy_score, f1_score

from tegakari.analyses.classification import classification
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
