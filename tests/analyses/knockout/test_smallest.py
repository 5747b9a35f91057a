"""The smallest set agrees with a plain greedy search."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.knockout import knock_out
from tegakari.analyses.knockout.plots import greedy_steps
from tegakari.analyses.knockout.smallest import PATIENCE, smallest_set
from tegakari.analyses.svg import to_svg
from tegakari.models.rerun.edits import Edit
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.knockout import KnockoutSettings, SmallestSetSettings
from tegakari.store import Run
from tests.support.hooked_passes import hooked_logits
from tests.support.recorded_progress import RecordedProgress


def test_the_smallest_set_agrees_with_a_plain_greedy_search(store: Path, run: Run, models: RunModels):
    label_id = 0
    rows = run.rows("SELECT text FROM documents WHERE label_id = $label ORDER BY document", {"label": label_id})

    def recall(features: tuple[int, ...]) -> tuple[float, float]:
        logits = [hooked_logits(models.classifier, row["text"], dict(models.saes), [Edit(1, features)]) for row in rows]
        hits = np.mean([int(row.argmax()) == label_id for row in logits])
        return float(hits), float(np.mean([float(row.softmax(0)[label_id]) for row in logits]))

    settings = SmallestSetSettings(label=run.labels[label_id], layer=1, candidates=8, share=0.5)
    progress = RecordedProgress()
    result = smallest_set(store, run, lambda: models, settings, progress=progress)
    page = knock_out(store, run, models, KnockoutSettings(label=run.labels[label_id], layer=1, k=8, draws=0)).features
    remaining, ablated, expected = [feature.feature for feature in page], [], []
    before = recall(())[0]
    assert result.recall_before == pytest.approx(before)
    while remaining and not (expected and expected[-1][1] <= 0.5 * before) and len(expected) < PATIENCE:
        trials = [recall((*ablated, feature)) for feature in remaining]
        best = min(range(len(remaining)), key=lambda number: (*trials[number], number))
        ablated.append(remaining.pop(best))
        expected.append((ablated[-1], trials[best][0]))
    while expected and expected[-1][1] >= ([before] + [share for _, share in expected])[len(expected) - 1]:
        expected.pop()
    assert [(step.feature, step.recall) for step in result.steps] == [
        (feature, pytest.approx(share)) for feature, share in expected
    ]
    assert result.reached == bool(result.steps and result.steps[-1].recall <= result.target)
    by_d = [recall(tuple(feature.feature for feature in page[:k]))[0] for k in range(1, 9)]
    assert result.recalls_by_d == pytest.approx(by_d)
    assert progress.steps == sorted(progress.steps)
    assert progress.steps[-1] == (8, 8)
    if result.reached and len(result.steps) == 2:  # greedy may miss a pair, but not a single one
        assert all(recall((feature.feature,))[0] > result.target for feature in page)
        assert any(recall(pair)[0] <= result.target for pair in combinations([feature.feature for feature in page], 2))

    def never() -> RunModels:
        raise AssertionError("it is stored")

    assert smallest_set(store, run, never, settings) == result
    assert "greedy" in to_svg(greedy_steps(result))


def test_a_smallest_set_of_an_unknown_label_is_refused(store: Path, run: Run, models: RunModels):
    with pytest.raises(NotFoundError, match="no label"):
        smallest_set(store, run, lambda: models, SmallestSetSettings(label="none", layer=1))
