"""Knockouts of a small run agree with document-by-document predictions with hooks."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from sklearn.metrics import f1_score

from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.knockout import knock_out, knock_out_all, resolve, stored_knockout
from tegakari.analyses.knockout.controls import NEAREST, draw_controls
from tegakari.models.rerun.edits import Edit
from tegakari.schemas.errors import MemoryShortError, NotFoundError, QueryError
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings, LayerFeature
from tegakari.store import Run
from tests.support.hooked_passes import hooked_logits
from tests.support.recorded_progress import RecordedProgress


def settings(run: Run, **changes: object) -> KnockoutSettings:
    defaults = KnockoutSettings(label=run.labels[0], layer=1, k=6, pooling="max", draws=3)
    return msgspec.structs.replace(defaults, **changes)


def expected_predictions(run: Run, models: RunModels, label: str, edits: list[Edit]) -> np.ndarray:
    rows = run.rows("SELECT text, label_id FROM documents ORDER BY document")
    texts = [row["text"] for row in rows if run.labels[row["label_id"]] == label]
    return np.array([int(hooked_logits(models.classifier, text, dict(models.saes), edits).argmax()) for text in texts])


@pytest.mark.parametrize("mode", ["error_preserving", "reconstruction"])
@pytest.mark.parametrize("positions", ["all", "head"])
def test_a_knockout_agrees_with_hooks(store: Path, run: Run, models: RunModels, mode: str, positions: str):
    for label in run.labels:
        result = knock_out(store, run, models, settings(run, label=label, mode=mode, positions=positions))
        rows = run.rows(
            "SELECT feature FROM feature_labels WHERE label_id = $label AND layer = 1 AND d_max IS NOT NULL "
            "ORDER BY d_max DESC, feature LIMIT 6",
            {"label": run.label_id(label)},
        )
        features = tuple(row["feature"] for row in rows)
        assert tuple(feature.feature for feature in result.features) == features
        expected = run.label_id(label)
        before = expected_predictions(run, models, label, []) == expected
        after = expected_predictions(run, models, label, [Edit(1, features, mode, positions)])
        assert result.documents == len(before)
        assert result.recall_before == pytest.approx(before.mean())
        assert result.recall_after == pytest.approx((after == expected).mean())
        assert result.delta == pytest.approx(100 * ((after == expected).mean() - before.mean()))
        lost = after[before & (after != expected)]
        assert sum(place.documents for place in result.lost) == len(lost)
        assert {place.label: place.documents for place in result.lost} == {
            run.labels[number]: int((lost == number).sum()) for number in set(lost.tolist())
        }
        assert result.gained == int((~before & (after == expected)).sum())
        assert result.delta_low <= result.delta <= result.delta_high
        if mode == "reconstruction":
            plain = expected_predictions(run, models, label, [Edit(1, (), mode, positions)])
            assert result.recall_reconstructed == pytest.approx((plain == expected).mean())
        else:
            assert result.recall_reconstructed is None


def test_no_ablated_feature_changes_nothing(store: Path, run: Run, models: RunModels):
    result = knock_out(store, run, models, settings(run, k=0))
    assert result.delta == 0
    assert result.delta_low < 0 < result.delta_high
    assert (result.net, result.beyond_control) == (None, None)
    assert result.features == []
    assert result.lost == []
    assert result.control is None


def without_timings(result: KnockoutResult) -> KnockoutResult:
    return msgspec.structs.replace(result, timings=None)  # type: ignore[arg-type]


def without_logits(result: KnockoutResult) -> KnockoutResult:
    """Without what the rounding of logits changes, which depends on the passes of a batch."""
    return msgspec.structs.replace(without_timings(result), margin=None)  # type: ignore[arg-type]


def test_controls_depend_on_the_seed_and_are_other_active_features(store: Path, run: Run, models: RunModels):
    one = knock_out(store, run, models, settings(run, seed=1))
    again = knock_out(store, run, models, settings(run, seed=1))
    assert without_timings(one) == without_timings(again)
    ablated = [LayerFeature(feature.layer, feature.feature) for feature in one.features]
    controls = draw_controls(run, ablated, 3, 1)
    assert controls != draw_controls(run, ablated, 3, 2)
    active = {
        row["feature"] for row in run.rows("SELECT feature FROM features WHERE layer = 1 AND active_positions > 0")
    }
    for control, sets in ((one.control, controls.random), (one.density_control, controls.matched)):
        assert control is not None
        deltas = [100 * (recall - one.recall_before) for recall in control.recalls]
        assert control.delta_mean == pytest.approx(np.mean(deltas))
        assert control.delta_sd == pytest.approx(np.std(deltas, ddof=1))
        for draw, recall in zip(sets, control.recalls, strict=True):
            assert len(draw) == len(set(draw)) == len(ablated)
            assert {feature.layer for feature in draw} == {1}
            assert not set(draw) & set(ablated)
            assert {feature.feature for feature in draw} <= active
            features = tuple(feature.feature for feature in draw)
            after = expected_predictions(run, models, run.labels[0], [Edit(1, features)])
            assert recall == pytest.approx((after == 0).mean())


def test_the_matched_control_has_about_the_same_density(run: Run):
    rows = run.rows("SELECT feature, active_positions AS n FROM features WHERE layer = 1 ORDER BY n DESC, feature")
    positions = {row["feature"]: row["n"] for row in rows}
    ablated = [LayerFeature(1, row["feature"]) for row in rows[:4]]
    others = [row["feature"] for row in rows[4:] if row["n"] > 0]
    controls = draw_controls(run, ablated, 20, 0)
    nearest = set(others[: NEAREST + 3])
    assert all(feature.feature in nearest for draw in controls.matched for feature in draw)
    mean = {
        name: np.mean([positions[feature.feature] for draw in sets for feature in draw])
        for name, sets in zip(("random", "matched"), controls, strict=True)
    }
    assert mean["matched"] > mean["random"]


def test_macro_f1_agrees_with_sklearn(store: Path, run: Run, models: RunModels):
    rows = run.rows("SELECT label_id, predicted_id FROM documents ORDER BY document")
    expected = np.array([row["label_id"] for row in rows])
    predicted = np.array([row["predicted_id"] for row in rows])
    result = knock_out(store, run, models, settings(run))
    labels = sorted(set(expected.tolist()))
    assert result.macro_f1_before == pytest.approx(f1_score(expected, predicted, average="macro", labels=labels))
    features = tuple(feature.feature for feature in result.features)
    predicted[expected == 0] = expected_predictions(run, models, run.labels[0], [Edit(1, features)])
    after = f1_score(expected, predicted, average="macro", labels=labels)
    assert result.macro_f1_partial_ablation == pytest.approx(after)


def test_features_of_several_layers_in_documents_by_id(store: Path, run: Run, models: RunModels):
    rows = run.rows("SELECT id, text, label_id FROM documents ORDER BY document")[::3]
    named = [LayerFeature(1, 3), LayerFeature(0, 7), LayerFeature(1, 20), LayerFeature(0, 7)]
    knockout = KnockoutSettings(
        features=named, documents=[row["id"] for row in rows], details="logits", draws=2, positions="all"
    )
    result = knock_out(store, run, models, knockout)
    assert [(feature.layer, feature.feature, feature.cohens_d) for feature in result.features] == [
        (0, 7, None),
        (1, 3, None),
        (1, 20, None),
    ]
    edits = [Edit(0, (7,)), Edit(1, (3, 20))]
    assert result.outcomes is not None
    for row, outcome in zip(rows, result.outcomes, strict=True):
        logits = hooked_logits(models.classifier, row["text"], dict(models.saes), edits)
        np.testing.assert_allclose(outcome.logits_after, logits.numpy(), atol=1e-4)
        plain = hooked_logits(models.classifier, row["text"], dict(models.saes), [])
        np.testing.assert_allclose(outcome.logits_before, plain.numpy(), atol=1e-4)
        assert (outcome.document, outcome.expected) == (row["id"], run.labels[row["label_id"]])
        assert outcome.before == run.labels[int(plain.argmax())]
        assert outcome.after == run.labels[int(logits.argmax())]
        assert outcome.probability_after == pytest.approx(float(logits.softmax(0)[row["label_id"]]), abs=1e-4)
    survived = [
        row["id"]
        for row, outcome in zip(rows, result.outcomes, strict=True)
        if outcome.expected == outcome.before == outcome.after
    ]
    assert result.survived == survived
    assert result.macro_f1_before is not None


def test_texts_are_expected_to_keep_their_prediction(store: Path, run: Run, models: RunModels):
    texts = [row["text"] for row in run.rows("SELECT text FROM documents ORDER BY document LIMIT 5")]
    result = knock_out(
        store, run, models, KnockoutSettings(features=[LayerFeature(1, 3)], texts=texts, details="predictions")
    )
    assert result.recall_before == 1
    assert result.macro_f1_before is None
    assert result.outcomes is not None
    assert [outcome.document for outcome in result.outcomes] == ["0", "1", "2", "3", "4"]
    assert all(outcome.expected == outcome.before for outcome in result.outcomes)
    assert all(outcome.logits_before is None for outcome in result.outcomes)
    labelled = knock_out(store, run, models, settings(run, texts=texts))
    before = [int(hooked_logits(models.classifier, text, {}, []).argmax()) for text in texts]
    assert labelled.recall_before == pytest.approx(np.mean([number == 0 for number in before]))


def test_knockouts_that_share_passes_give_the_same_results_as_single_ones(store: Path, run: Run, models: RunModels):
    knockouts = [
        settings(run, layer=layer, k=k, seed=11, positions=positions)
        for layer in (0, 1)
        for k in (1, 5)
        for positions in ("all", "head")
    ]
    knockouts += [settings(run, label=run.labels[1], k=3, seed=11), knockouts[0]]
    progress = RecordedProgress()
    results = knock_out_all(store, run, lambda: models, knockouts, progress=progress)
    for knockout, result in zip(knockouts, results, strict=True):
        alone = knock_out(store, run, models, knockout)
        assert without_logits(result) == without_logits(alone)
        assert result.margin.after == pytest.approx(alone.margin.after, abs=1e-4)
    assert results[0].timings.together == 8
    steps = [step for step in progress.steps if step[1] is not None]  # the stage before them draws the controls
    assert steps == sorted(steps)
    documents = results[0].documents + results[-2].documents
    assert progress.steps[-1] == (documents, documents)

    def never() -> RunModels:
        raise AssertionError("everything is stored")

    assert knock_out_all(store, run, never, knockouts) == results


def test_forward_passes_are_cached_up_to_a_size(
    store: Path, run: Run, models: RunModels, monkeypatch: pytest.MonkeyPatch
):
    fresh = with_empty_cache(models)
    first = knock_out(store, run, fresh, settings(run, seed=3))
    again = knock_out(store, run, fresh, settings(run, seed=4))
    assert (first.timings.kept, again.timings.kept) == (False, True)
    assert 0 < fresh.prefix_cache.nbytes <= fresh.prefix_cache.max_bytes
    one = fresh.prefix_cache.nbytes
    fresh.prefix_cache.max_bytes = int(2.5 * one)
    for label in run.labels:
        knock_out(store, run, fresh, settings(run, label=label, draws=0))
        assert fresh.prefix_cache.nbytes <= fresh.prefix_cache.max_bytes
    assert not knock_out(store, run, fresh, settings(run, seed=5)).timings.kept
    fresh.prefix_cache.max_bytes = 10
    for _ in range(2):
        assert not knock_out(store, run, fresh, settings(run, label=run.labels[1])).timings.kept
    result = knock_out(store, run, fresh, settings(run, seed=3))
    assert without_timings(result) == without_timings(first)


def with_empty_cache(models: RunModels) -> RunModels:
    """The same models with an empty cache."""
    return RunModels(models.classifier, models.saes)


def test_a_knockout_beyond_free_memory_is_refused(
    store: Path, run: Run, models: RunModels, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tegakari.analyses.engine.memory.free_bytes", lambda device: 1000)
    with pytest.raises(MemoryShortError, match="are free"):
        knock_out(store, run, with_empty_cache(models), settings(run))


def test_a_stored_result_is_read(store: Path, run: Run, models: RunModels):
    resolved = resolve(run, settings(run, layer=0, k=2))
    assert stored_knockout(store, run, resolved) is None
    result = knock_out(store, run, models, resolved)
    assert stored_knockout(store, run, resolved) == result
    assert stored_knockout(store, run, msgspec.structs.replace(resolved, k=3)) is None


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"label": "none"}, NotFoundError, "no label"),
        ({"layer": 9}, NotFoundError, "no layer 9"),
        ({"layer": None}, QueryError, "missing"),
        ({"k": 49}, QueryError, "not 49"),
        ({"k": 40}, QueryError, "cannot be drawn"),
        ({"label": None}, QueryError, "either a label or features"),
        ({"features": [LayerFeature(0, 0)]}, QueryError, "either a label or features"),
        ({"label": None, "features": [LayerFeature(0, 0)]}, QueryError, "go with a label"),
        ({"label": None, "layer": None, "pooling": None, "features": [LayerFeature(0, 0)]}, QueryError, "no documents"),
        (
            {"label": None, "layer": None, "pooling": None, "features": [LayerFeature(0, 48)], "documents_of": "a"},
            NotFoundError,
            "not 48",
        ),
        ({"documents": ["none"]}, NotFoundError, "no document"),
        ({"documents": ["a"], "texts": ["b"]}, QueryError, "exclude each other"),
        ({"documents": ["a", "a"]}, QueryError, "twice"),
        ({"texts": ["車", ""]}, QueryError, "no token"),
    ],
)
def test_wrong_settings_are_refused(
    store: Path, run: Run, models: RunModels, changes: dict, error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        knock_out(store, run, models, settings(run, **changes))
