"""Net effects, and the layer that is chosen by them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.knockout import knock_out, sweeps
from tegakari.analyses.knockout.controls import draw_controls
from tegakari.analyses.knockout.forward import FeatureAblation, run_feature_ablations
from tegakari.analyses.knockout.holdout import holdout_of
from tegakari.analyses.knockout.layer_choice import CHOICE_DRAWS, check_selection, choose_layer, selected_layer
from tegakari.analyses.knockout.mean import CHANCE, MAX_PROBABILITY, is_shown, knockout_mean
from tegakari.analyses.statistics import net_change_interval
from tegakari.schemas.analysis import Interval
from tegakari.schemas.analysis_kinds import KNOCKOUT_ANALYSIS
from tegakari.schemas.errors import ConfigError, NotFoundError, QueryError
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings, LayerFeature
from tegakari.schemas.progress import Progress
from tegakari.store import Run
from tegakari.store.results import stored_analyses


def test_the_net_effect_is_that_of_the_stored_logits(store: Path, run: Run, models: RunModels):
    """The controls are knocked out one by one, and the net effect is computed from the logits of all."""
    label = run.labels[2]
    result = knock_out(store, run, models, KnockoutSettings(label=label, layer=1, k=5, draws=4, details="logits"))
    controls = draw_controls(run, [LayerFeature(row.layer, row.feature) for row in result.features], 4, 0)

    def right(knockout: KnockoutResult) -> np.ndarray:
        logits = np.array([outcome.logits_after for outcome in knockout.outcomes or ()])
        return logits.argmax(1) == run.label_id(label)

    after = right(result)
    matched = []
    for features in controls.matched:
        settings = KnockoutSettings(features=list(features), documents_of=label, details="logits", draws=0)
        matched.append(right(knock_out(store, run, models, settings)))
    assert result.net
    assert result.density_control
    assert result.net.value == pytest.approx(100 * (after.mean() - np.mean(matched)))
    assert result.net.value == pytest.approx(result.delta - result.density_control.delta_mean)
    expected = net_change_interval(after, np.array(matched))
    assert (result.net.low, result.net.high) == pytest.approx((100 * expected.low, 100 * expected.high))
    assert result.beyond_control is (result.net.high < 0)


@pytest.mark.parametrize("holdout", [False, True])
def test_the_layer_has_the_largest_mean_net_effect(store: Path, run: Run, models: RunModels, holdout: bool):
    settings = KnockoutSettings(k=5, draws=2, holdout=holdout, seed=4)
    knockouts = sweeps.over_labels(store, run, lambda: models, run.labels, settings)
    net = []
    for layer in run.manifest.saes.layers:
        of_layer = []
        for label in run.labels:
            request = msgspec.structs.replace(settings, label=label, layer=layer, draws=CHOICE_DRAWS)
            if holdout:
                documents = run.blocks.documents.id.take(holdout_of(run, 4).choice(label)).to_pylist()
                request = msgspec.structs.replace(request, documents=documents)
            result = knock_out(store, run, models, request)
            assert result.density_control
            of_layer.append(result.delta - result.density_control.delta_mean)
        net.append(np.mean(of_layer))
    assert knockouts.choice
    assert [effect.net for effect in knockouts.choice.effects] == pytest.approx(net)
    assert knockouts.choice.layer == run.manifest.saes.layers[int(np.argmin(net))]
    assert {result.settings.layer for result in knockouts.results} == {knockouts.choice.layer}
    assert {result.documents for result in knockouts.results} == {
        len(holdout_of(run, 4).measurement(label)) if holdout else result.documents
        for label, result in zip(run.labels, knockouts.results, strict=True)
    }


def test_no_document_of_the_measurement_half_takes_part_in_the_choice(run: Run, models: RunModels, tmp_path: Path):
    settings = KnockoutSettings(k=4, holdout=True, seed=9)
    choose_layer(tmp_path, run, lambda: models, run.labels, settings)
    ids = run.blocks.documents.id.to_pylist()
    measurement = {ids[number] for label in run.labels for number in holdout_of(run, 9).measurement(label)}
    stored = [analysis.result(KNOCKOUT_ANALYSIS) for analysis in stored_analyses(tmp_path, kind=KNOCKOUT_ANALYSIS)]
    assert len(stored) == len(run.labels) * len(run.manifest.saes.layers)
    for result in stored:
        assert result.settings.documents
        assert not set(result.settings.documents) & measurement


def test_a_layer_per_label(store: Path, run: Run, models: RunModels):
    settings = KnockoutSettings(k=5, draws=2)
    knockouts = sweeps.over_labels(store, run, lambda: models, run.labels, settings, per_label=True)
    assert knockouts.choice is None
    for label, result in zip(run.labels, knockouts.results, strict=True):
        net = []
        for layer in run.manifest.saes.layers:
            request = KnockoutSettings(label=label, layer=layer, k=5, draws=CHOICE_DRAWS)
            single = knock_out(store, run, models, request)
            assert single.density_control
            net.append(single.delta - single.density_control.delta_mean)
        assert result.settings.layer == run.manifest.saes.layers[int(np.argmin(net))]


def test_a_layer_without_enough_features_is_left_out(store: Path, run: Run, models: RunModels):
    layers = run.manifest.saes.layers
    active = [
        np.count_nonzero(run.blocks.features["active_positions"][run.blocks.places.slice_of(layer)]) for layer in layers
    ]
    assert min(active) < max(active)
    k = int(min(active) + max(active)) // 4 + 1
    possible = [layer for layer, count in zip(layers, active, strict=True) if count >= 2 * k]
    assert possible
    choice = choose_layer(store, run, lambda: models, run.labels, KnockoutSettings(k=k))
    assert [effect.layer for effect in choice.effects if effect.net is not None] == possible
    assert all(effect.left_out for effect in choice.effects if effect.net is None)
    assert choice.layer in possible
    with pytest.raises(NotFoundError, match="no layer of run 'small' can be chosen") as refused:
        choose_layer(store, run, lambda: models, run.labels, KnockoutSettings(k=47))
    assert refused.value.field == "k"


def test_a_layer_that_is_refused_while_it_runs_is_left_out(
    run: Run, models: RunModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse_layer_2(models: RunModels, texts: object, ablations: Sequence[FeatureAblation], progress: Progress):
        if any(ablation.layers == (2,) for ablation in ablations):
            raise QueryError("layer 2 does not reach the head", field="layer", fix="choose another layer")
        return run_feature_ablations(models, texts, ablations, progress)  # type: ignore[arg-type]

    monkeypatch.setattr("tegakari.analyses.knockout.forward.run_feature_ablations", refuse_layer_2)
    choice = choose_layer(tmp_path, run, lambda: models, run.labels, KnockoutSettings(k=3))
    by_layer = {effect.layer: effect for effect in choice.effects}
    assert list(by_layer) == run.manifest.saes.layers
    assert by_layer[2].net is None
    assert by_layer[2].left_out == "layer 2 does not reach the head"
    assert all(by_layer[layer].net is not None for layer in (0, 1))
    assert choice.layer in (0, 1)


def test_layers_by_run():
    assert selected_layer({"a": 3, "b": 1}, "b") == 1
    assert selected_layer(2, "b") == 2
    assert selected_layer(None, "b") is selected_layer("per-label", "b") is None
    check_selection({"a": 3, "b": 1}, ["a", "b"])
    for selection, message in (({"a": 3}, "run 'b' has no layer"), ({"a": 1, "b": 1, "c": 2}, "'c' is none of")):
        with pytest.raises(ConfigError, match=message) as refused:
            check_selection(selection, ["a", "b"])
        assert refused.value.field == "--layer"
        assert refused.value.fix


def test_means_are_over_labels_beyond_their_control(store: Path, run: Run, models: RunModels):
    result = knock_out(store, run, models, KnockoutSettings(label=run.labels[0], layer=1, k=3, draws=2))

    def effect(points: float, beyond: bool) -> KnockoutResult:
        net = Interval(value=points, low=points - 5, high=points + 5)
        return msgspec.structs.replace(result, delta=points - 1, net=net, beyond_control=beyond)

    rows = [*(effect(points, True) for points in (-50.0, -70.0, -60.0, -60.0)), effect(-30.0, False)]
    mean = knockout_mean(rows)
    assert (mean.labels, mean.beyond_control, mean.shown) == (5, 4, True)
    assert mean.points
    assert mean.net
    assert mean.net_of_all
    assert (mean.points.value, mean.net.value, mean.net_of_all.value) == (-61, -60, -54)
    chance = knockout_mean([effect(-20.0, True), *[effect(-2.0, False)] * 15])
    assert (chance.beyond_control, chance.shown, chance.points, chance.net) == (1, False, None, None)
    single = knockout_mean(rows[:1])
    assert (single.net, single.net_of_all) == (rows[0].net, None)
    without = knockout_mean([msgspec.structs.replace(result, net=None, beyond_control=None)] * 3)
    assert (without.beyond_control, without.shown, without.net_of_all) == (0, False, None)


def test_a_mean_needs_more_labels_than_chance_makes():
    for labels in (2, 5, 16, 107):
        effects = -50 + np.random.default_rng(0).normal(size=labels)
        by_chance = np.random.default_rng(labels).binomial(labels, CHANCE, 40_000)
        smallest = next(number for number in range(1, labels + 1) if is_shown(number, effects))
        assert (by_chance >= smallest).mean() <= MAX_PROBABILITY + 0.003
        assert (by_chance >= smallest - 1).mean() > MAX_PROBABILITY - 0.003
    assert not is_shown(0, np.full(5, -50.0))
    assert is_shown(1, np.array([-50.0]))


def test_a_mean_needs_a_mean_net_effect_of_all_labels():
    few = np.concatenate([np.full(4, -45.0), np.zeros(12)])
    assert not is_shown(4, few + np.array([30, -40, 10, 0] + [0] * 12))
    assert is_shown(4, few)
