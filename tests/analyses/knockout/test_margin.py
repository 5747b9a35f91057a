"""Margins of knockouts, against predictions with hooks, and the label that a classifier predicts by default."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy import stats

from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.knockout import knock_out, resolve
from tegakari.analyses.knockout.controls import draw_controls
from tegakari.analyses.knockout.default_label import default_label
from tegakari.analyses.knockout.margin import margin_of, margins, tells_apart
from tegakari.models.rerun.edits import Edit
from tegakari.schemas.knockout import Destination, KnockoutResult, KnockoutSettings, LayerFeature
from tegakari.store import Run
from tests.support.hooked_passes import hooked_logits


def test_a_margin_is_the_distance_to_the_best_other_label():
    logits = np.array([[3.0, 1.0, 2.5], [0.0, 4.0, -1.0]], np.float32)
    assert margins(logits, np.array([0, 0])).tolist() == [0.5, -4.0]
    assert margins(np.stack([logits, logits + 7]), np.array([2, 1])).tolist() == [[-0.5, 4.0]] * 2
    assert logits[0, 0] == 3.0


def test_margins_agree_with_hooks(store: Path, run: Run, models: RunModels):
    label, layer, draws = run.labels[1], 1, 3
    settings = resolve(run, KnockoutSettings(label=label, layer=layer, k=4, draws=draws))
    result = knock_out(store, run, models, settings)
    expected = run.label_id(label)
    rows = run.rows("SELECT text FROM documents WHERE label_id = $label ORDER BY document", {"label": expected})

    def margin(features: tuple[int, ...] | None) -> np.ndarray:
        edits = [Edit(layer, features, "error_preserving", "all")] if features else []
        logits = np.stack(
            [hooked_logits(models.classifier, row["text"], dict(models.saes), edits).ravel() for row in rows]
        )
        return logits[:, expected] - np.delete(logits, expected, axis=1).max(1)

    features = [LayerFeature(layer, feature.feature) for feature in result.features]
    controls = draw_controls(run, features, draws, settings.seed).matched
    before, after = margin(None), margin(tuple(feature.feature for feature in features))
    drawn = np.stack([margin(tuple(feature.feature for feature in control)) for control in controls])
    assert result.margin.before == pytest.approx(before.mean(), abs=1e-4)
    assert result.margin.after == pytest.approx(after.mean(), abs=1e-4)
    assert result.margin.net
    assert result.margin.net.value == pytest.approx(after.mean() - drawn.mean(), abs=1e-4)
    of_items = stats.t.ppf(0.975, len(rows) - 1) * stats.sem(after - drawn.mean(0))
    of_draws = stats.t.ppf(0.975, draws - 1) * drawn.mean(1).std(ddof=1) * np.sqrt(1 + 1 / draws)
    assert result.margin.net.high - result.margin.net.value == pytest.approx(np.hypot(of_items, of_draws), abs=1e-4)
    assert result.margin.told_apart == tells_apart(run, expected)


def test_a_margin_without_draws_or_of_several_labels_has_no_verdict(store: Path, run: Run, models: RunModels):
    none = knock_out(store, run, models, KnockoutSettings(label=run.labels[0], layer=1, k=4, draws=1))
    assert (none.margin.net, none.margin.beyond_control) == (None, None)
    ids = run.blocks.documents.id.to_pylist()
    labels = np.asarray(run.blocks.documents.label_id)
    two = [ids[np.flatnonzero(labels == number)[0]] for number in (0, 1)]
    mixed = knock_out(store, run, models, KnockoutSettings(label=run.labels[0], layer=1, k=4, draws=2, documents=two))
    assert mixed.margin.net
    assert (mixed.margin.told_apart, mixed.margin.beyond_control) == (None, None)


def test_rounding_of_logits_is_no_effect():
    generator = np.random.default_rng(1)
    before = generator.normal(size=(40, 3)).astype(np.float32)
    after = before - np.array([2e-6, 0.0, 0.0], np.float32)
    net = margin_of(before, after, np.stack([before] * 5), np.zeros(40, int), True).net
    assert net
    assert net.high >= 0


def test_a_margin_counts_for_labels_that_the_classifier_tells_apart():
    generator = np.random.default_rng(0)
    before = np.array([4.0, 0.0, 0.0]) + generator.normal(size=(20, 3)) * 0.1
    before = before.astype(np.float32)
    controls = np.stack([before + generator.normal(size=before.shape).astype(np.float32) * 0.1 for _ in range(5)])
    after = before - np.array([3.0, 0.0, 0.0], np.float32)  # still predicted: recall does not fall
    expected = np.zeros(20, int)
    assert (after.argmax(1) == 0).all()
    for told_apart, beyond in ((True, True), (False, False), (None, None)):
        margin = margin_of(before, after, controls, expected, told_apart)
        assert margin.net
        assert margin.net.low < -3 < margin.net.high < -2
        assert margin.beyond_control is beyond
    assert margin_of(before, before, controls, expected, True).beyond_control is False
    assert margin_of(before[:1], after[:1], controls[:, :1], expected[:1], True).net is None


def test_labels_that_are_told_apart_have_a_higher_recall_than_false_positive_rate(run: Run):
    label, predicted = np.asarray(run.blocks.documents.label_id), np.asarray(run.blocks.documents.predicted_id)
    for number in range(len(run.labels)):
        hits, false = (predicted[label == number] == number), (predicted[label != number] == number)
        low, high = (
            stats.binomtest(int(of.sum()), len(of)).proportion_ci(0.95, method="wilson") for of in (hits, false)
        )
        assert tells_apart(run, number) == (low.low > high.high)


def test_the_default_label_takes_what_others_lose(store: Path, run: Run, models: RunModels):
    result = knock_out(store, run, models, KnockoutSettings(label=run.labels[0], layer=1, k=3, draws=2))

    def losing(label: str, beyond: bool, **lost: int) -> KnockoutResult:
        places = [Destination(label=name, documents=documents) for name, documents in lost.items()]
        settings = msgspec.structs.replace(result.settings, label=label)
        return msgspec.structs.replace(result, settings=settings, beyond_control=beyond, lost=places)

    others = [losing("a", True, d=15, b=2), losing("b", True, d=12, a=3), losing("c", True, d=10, b=5)]
    default = default_label([*others, losing("d", False, a=1)], 4)
    assert default
    assert (default.knockout.settings.label, default.taken, default.lost) == ("d", 37, 47)
    assert default_label([*others, losing("d", True, a=15)], 4) is None  # its recall falls
    assert default_label(others, 4) is None  # it has no knockout
    even = [losing("a", True, b=5, c=5, d=6), losing("b", True, a=5, c=5, d=5), losing("d", False)]
    assert default_label(even, 4) is None  # chance gives as many
    assert default_label([losing("a", True, b=20), losing("b", False)], 2) is None
    assert default_label([losing("a", False), losing("b", False)], 4) is None
