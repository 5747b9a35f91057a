"""Tables, curves and the smallest set: against single knockouts, and against a search written out."""

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
from tests.models.rerun.test_edits import naive
from tests.support.recorded_progress import RecordedProgress


def figures(result: KnockoutResult) -> tuple[object, ...]:
    return result.settings.label, result.settings.layer, result.recall_after, result.delta, result.control


@pytest.fixture(scope="module")
def alone(store: Path, run: Run, models: RunModels):
    def ask(**settings: object) -> KnockoutResult:
        return knock_out(store, run, models, KnockoutSettings(**settings))  # type: ignore[arg-type]

    return ask


def test_the_layer_of_largest_effect_is_found(store: Path, run: Run, models: RunModels, alone):
    found = sweeps.over_labels(store, run, lambda: models, run.labels, KnockoutSettings(k=5, draws=2))
    for label, result in zip(run.labels, found, strict=True):
        every = [alone(label=label, layer=layer, k=5, draws=2) for layer in run.manifest.saes.layers]
        largest = min(every, key=lambda each: (each.delta, each.settings.layer))
        assert figures(result) == figures(largest)


def test_a_table_in_one_layer(store: Path, run: Run, models: RunModels, alone):
    found = sweeps.over_labels(store, run, lambda: models, run.labels[:2], KnockoutSettings(layer=1, k=5, draws=2))
    assert [figures(each) for each in found] == [
        figures(alone(label=label, layer=1, k=5, draws=2)) for label in run.labels[:2]
    ]
    table = knockout_rows(found)
    assert table.schema == KNOCKOUTS.schema
    assert table["delta"].to_pylist() == [each.delta for each in found]
    assert table["label"].to_pylist() == list(run.labels[:2])


def test_a_killed_table_goes_on(store: Path, run: Run, models: RunModels):
    asked = [KnockoutSettings(label=label, layer=2, k=3, seed=77) for label in run.labels]

    class Killed(RecordedProgress):
        def step(self, done: int, total: int | None) -> None:
            super().step(done, total)
            if total and done * len(run.labels) > total:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        knock_out_all(store, run, lambda: models, asked, progress=Killed())
    progress = RecordedProgress()
    found = knock_out_all(store, run, lambda: models, asked, progress=progress)
    assert {total for _, total in progress.steps} == {sum(each.documents for each in found[1:])}


def test_curves_over_k_and_layers(store: Path, run: Run, models: RunModels, alone):
    label = run.labels[0]
    over_k = sweeps.over_k(store, run, lambda: models, KnockoutSettings(label=label, layer=1, draws=1))
    ks = [len(each.features) for each in over_k]
    assert ks == [k for k in sweeps.KS if k <= max(ks)]
    for k, found in zip(ks, over_k, strict=True):
        draws = 1 if found.control else 0
        assert figures(found) == figures(alone(label=label, layer=1, k=k, draws=draws))
    assert over_k[0].control
    assert not over_k[-1].control
    (over_layers,) = sweeps.over_layers(store, run, lambda: models, [KnockoutSettings(label=label, k=4, draws=1)])
    assert [each.settings.layer for each in over_layers] == run.manifest.saes.layers
    for results, over in ((over_k, "k"), (over_layers, "layer")):
        drawn = to_svg(recall_curve(results, over=over))
        assert label in "".join(ElementTree.fromstring(drawn).itertext())
        assert drawn == to_svg(recall_curve(results, over=over))
    bars = to_svg(label_bars({"small": over_layers[:1], "other": over_k[:1]}))
    assert {"small", "other", label} <= set(ElementTree.fromstring(bars).itertext())


def test_features_one_by_one(store: Path, run: Run, models: RunModels):
    asked = KnockoutSettings(label=run.labels[0], layer=1, k=4, draws=0)
    found = sweeps.over_features(store, run, lambda: models, asked)
    together = knock_out(store, run, models, asked)
    assert [each.features for each in found] == [[each] for each in together.features]
    assert {each.documents for each in found} == {together.documents}


def test_the_smallest_set_is_the_greedy_one(store: Path, run: Run, models: RunModels):
    label_id = 0
    rows = run.rows("SELECT text FROM documents WHERE label_id = $label ORDER BY document", {"label": label_id})

    def recall(features: tuple[int, ...]) -> tuple[float, float]:
        logits = [naive(models.classifier, row["text"], dict(models.saes), [Edit(1, features)]) for row in rows]
        hits = np.mean([int(each.argmax()) == label_id for each in logits])
        return float(hits), float(np.mean([float(each.softmax(0)[label_id]) for each in logits]))

    asked = SmallestSetSettings(label=run.labels[label_id], layer=1, candidates=8, share=0.5)
    progress = RecordedProgress()
    found = smallest_set(store, run, lambda: models, asked, progress=progress)
    page = knock_out(store, run, models, KnockoutSettings(label=run.labels[label_id], layer=1, k=8, draws=0)).features
    left, taken, expected = [each.feature for each in page], [], []
    before = recall(())[0]
    assert found.recall_before == pytest.approx(before)
    while left and not (expected and expected[-1][1] <= 0.5 * before) and len(expected) < PATIENCE:
        tried = [recall((*taken, each)) for each in left]
        best = min(range(len(left)), key=lambda number: (*tried[number], number))
        taken.append(left.pop(best))
        expected.append((taken[-1], tried[best][0]))
    while expected and expected[-1][1] >= ([before] + [each for _, each in expected])[len(expected) - 1]:
        expected.pop()
    assert [(step.feature, step.recall) for step in found.steps] == [
        (feature, pytest.approx(share)) for feature, share in expected
    ]
    assert found.reached == bool(found.steps and found.steps[-1].recall <= found.target)
    by_d = [recall(tuple(each.feature for each in page[:k]))[0] for k in range(1, 9)]
    assert found.recalls_by_d == pytest.approx(by_d)
    assert progress.steps == sorted(progress.steps)
    assert progress.steps[-1] == (8, 8)
    if found.reached and len(found.steps) == 2:  # greedy may miss a pair, but not a single one
        assert all(recall((each.feature,))[0] > found.target for each in page)
        assert any(recall(pair)[0] <= found.target for pair in combinations([each.feature for each in page], 2))

    def never() -> RunModels:
        raise AssertionError("it is stored")

    assert smallest_set(store, run, never, asked) == found
    assert "greedy" in to_svg(greedy_steps(found))


def test_a_smallest_set_of_an_unknown_label_is_refused(store: Path, run: Run, models: RunModels):
    with pytest.raises(NotFoundError, match="no label"):
        smallest_set(store, run, lambda: models, SmallestSetSettings(label="none", layer=1))
