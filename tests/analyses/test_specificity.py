"""Specificity over all layers agrees with plain Python on the features of a run."""

from __future__ import annotations

import numpy as np
import pytest

from tegakari.analyses.specificity import overall_specificity
from tegakari.store import Run
from tests.support.factories import Case


def test_overall_specificity_is_the_sum_of_the_layers(random_run: tuple[Run, Case]):
    run, _ = random_run
    result = overall_specificity(run)
    variety = [row["variety_head"] for row in run.rows("SELECT variety_head FROM features")]
    assert result.features == len(variety)
    assert result.mean_variety.value == pytest.approx(np.mean(variety))
    assert (result.weak, result.specific) == (variety.count(0), variety.count(1))
    assert result.weak + result.specific + result.shared == len(variety)
    counts = run.rows(
        "SELECT count(*) FILTER (labels > 0) AS above, count(*) FILTER (labels = 1) AS single FROM "
        "(SELECT layer, feature, count(*) FILTER (d_head > 2) AS labels FROM feature_labels GROUP BY ALL)"
    )[0]
    (at_2,) = (high for high in result.high_d if high.cutoff == 2)
    assert (at_2.features, at_2.single_label) == (counts["above"], counts["single"])
