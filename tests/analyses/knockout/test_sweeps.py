"""Sweeps agree with single knockouts, and the smallest set with a plain greedy search."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest

from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.knockout import knock_out, knock_out_all, sweeps
from tegakari.analyses.knockout.plots import TICK_GAP, label_bars, readable_ticks, recall_curve
from tegakari.analyses.knockout.rows import knockout_rows
from tegakari.analyses.svg import to_svg
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.schemas.tables import KNOCKOUTS
from tegakari.store import Run
from tegakari.store.column_types import arrow_schema
from tests.support.recorded_progress import RecordedProgress


def compared(result: KnockoutResult) -> tuple[object, ...]:
    return result.settings.label, result.settings.layer, result.recall_after, result.delta, result.control


@pytest.fixture(scope="module")
def single_knockout(store: Path, run: Run, models: RunModels):
    def compute(**settings: object) -> KnockoutResult:
        return knock_out(store, run, models, KnockoutSettings(**settings))  # type: ignore[arg-type]

    return compute


def test_a_table_in_one_layer(store: Path, run: Run, models: RunModels, single_knockout):
    knockouts = sweeps.over_labels(store, run, lambda: models, run.labels[:2], KnockoutSettings(layer=1, k=5, draws=2))
    assert knockouts.choice is None
    assert [compared(result) for result in knockouts.results] == [
        compared(single_knockout(label=label, layer=1, k=5, draws=2)) for label in run.labels[:2]
    ]
    table = knockout_rows(knockouts.results)
    assert table.schema == arrow_schema(KNOCKOUTS)
    assert table["delta"].to_pylist() == [result.delta for result in knockouts.results]
    assert table["net_high"].to_pylist() == [result.net.high for result in knockouts.results if result.net]
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
    # Before it knows the documents, a knockout reports steps without a total.
    assert {total for _, total in progress.steps if total} == {sum(result.documents for result in results[1:])}


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


@pytest.mark.parametrize("ks", [(20, 50, 100), (1, 2, 5, 10, 20, 50, 100), tuple(range(1, 60))])
def test_ticks_of_a_curve_are_apart(single_knockout, run: Run, ks: tuple[int, ...]):
    ticks = readable_ticks(ks, logarithmic=True)
    assert ticks[-1] == ks[-1]
    gaps = np.diff(np.log(ticks)) / np.log(ks[-1] / ks[0])
    assert (gaps >= TICK_GAP).all()
    if len(ks) < 10:
        assert ticks == list(ks)
    result = single_knockout(label=run.labels[0], layer=1, k=4, draws=0)
    results = [msgspec.structs.replace(result, features=result.features[:1] * k) for k in ks]
    figure = recall_curve(results, over="k")
    (axes,) = figure.axes
    assert axes.get_xticks().tolist() == ticks
    assert not len(axes.get_xticks(minor=True))
    assert axes.get_legend() is None  # it stands below the axes
    assert figure.legends


def test_features_are_ablated_one_by_one(store: Path, run: Run, models: RunModels):
    knockout = KnockoutSettings(label=run.labels[0], layer=1, k=4, draws=0)
    results = sweeps.over_features(store, run, lambda: models, knockout)
    all_features = knock_out(store, run, models, knockout)
    assert [result.features for result in results] == [[feature] for feature in all_features.features]
    assert {result.documents for result in results} == {all_features.documents}
