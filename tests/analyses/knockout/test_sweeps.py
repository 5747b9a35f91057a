"""Sweeps agree with single knockouts, and the smallest set with a plain greedy search."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.knockout import knock_out, knock_out_all, sweeps
from tegakari.analyses.knockout.plots import greedy_steps, label_bars, recall_curve
from tegakari.analyses.knockout.rows import knockout_rows
from tegakari.analyses.knockout.smallest import PATIENCE, smallest_set
from tegakari.analyses.svg import to_svg
from tegakari.models.rerun.edits import Edit
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings, SmallestSetSettings
from tegakari.schemas.tables import KNOCKOUTS
from tegakari.store import Run
from tegakari.store.column_types import arrow_schema
from tests.support.hooked_passes import hooked_logits
from tests.support.recorded_progress import RecordedProgress


def compared(result: KnockoutResult) -> tuple[object, ...]:
    return result.settings.label, result.settings.layer, result.recall_after, result.delta, result.control


@pytest.fixture(scope="module")
def single_knockout(store: Path, run: Run, models: RunModels):
    def compute(**settings: object) -> KnockoutResult:
        return knock_out(store, run, models, KnockoutSettings(**settings))  # type: ignore[arg-type]

    return compute


def test_a_table_uses_the_layer_of_largest_effect(store: Path, run: Run, models: RunModels, single_knockout):
    results = sweeps.over_labels(store, run, lambda: models, run.labels, KnockoutSettings(k=5, draws=2))
    for label, result in zip(run.labels, results, strict=True):
        layers = [single_knockout(label=label, layer=layer, k=5, draws=2) for layer in run.manifest.saes.layers]
        largest = min(layers, key=lambda knockout: (knockout.delta, knockout.settings.layer))
        assert compared(result) == compared(largest)


def test_a_table_in_one_layer(store: Path, run: Run, models: RunModels, single_knockout):
    results = sweeps.over_labels(store, run, lambda: models, run.labels[:2], KnockoutSettings(layer=1, k=5, draws=2))
    assert [compared(result) for result in results] == [
        compared(single_knockout(label=label, layer=1, k=5, draws=2)) for label in run.labels[:2]
    ]
    table = knockout_rows(results)
    assert table.schema == arrow_schema(KNOCKOUTS)
    assert table["delta"].to_pylist() == [result.delta for result in results]
    assert table["label"].to_pylist() == list(run.labels[:2])


def test_a_killed_table_resumes(store: Path, run: Run, models: RunModels):
    knockouts = [KnockoutSettings(label=label, layer=2, k=3, seed=77) for label in run.labels]

    class Killed(RecordedProgress):
        def step(self, done: int, total: int | None) -> None:
            super().step(done, total)
            if total and done * len(run.labels) > total:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        knock_out_all(store, run, lambda: models, knockouts, progress=Killed())
    progress = RecordedProgress()
    results = knock_out_all(store, run, lambda: models, knockouts, progress=progress)
    assert {total for _, total in progress.steps} == {sum(result.documents for result in results[1:])}


def test_curves_over_k_and_layers(store: Path, run: Run, models: RunModels, single_knockout):
    label = run.labels[0]
    over_k = sweeps.over_k(store, run, lambda: models, KnockoutSettings(label=label, layer=1, draws=1))
    ks = [len(result.features) for result in over_k]
    assert ks == [k for k in sweeps.KS if k <= max(ks)]
    for k, result in zip(ks, over_k, strict=True):
        draws = 1 if result.control else 0
        assert compared(result) == compared(single_knockout(label=label, layer=1, k=k, draws=draws))
    assert over_k[0].control
    assert not over_k[-1].control
    (over_layers,) = sweeps.over_layers(store, run, lambda: models, [KnockoutSettings(label=label, k=4, draws=1)])
    assert [result.settings.layer for result in over_layers] == run.manifest.saes.layers
    for results, over in ((over_k, "k"), (over_layers, "layer")):
        drawn = to_svg(recall_curve(results, over=over))
        assert label in "".join(ElementTree.fromstring(drawn).itertext())
        assert drawn == to_svg(recall_curve(results, over=over))
    bars = to_svg(label_bars({"small": over_layers[:1], "other": over_k[:1]}))
    assert {"small", "other", label} <= set(ElementTree.fromstring(bars).itertext())


def test_features_are_ablated_one_by_one(store: Path, run: Run, models: RunModels):
    knockout = KnockoutSettings(label=run.labels[0], layer=1, k=4, draws=0)
    results = sweeps.over_features(store, run, lambda: models, knockout)
    all_features = knock_out(store, run, models, knockout)
    assert [result.features for result in results] == [[feature] for feature in all_features.features]
    assert {result.documents for result in results} == {all_features.documents}


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
