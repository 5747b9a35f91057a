"""Knockouts of a real small run, against predictions made document by document with hooks."""

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
from tests.models.rerun.test_edits import naive
from tests.support.recorded_progress import RecordedProgress


def settings(run: Run, **changes: object) -> KnockoutSettings:
    asked = KnockoutSettings(label=run.labels[0], layer=1, k=6, pooling="max", draws=3)
    return msgspec.structs.replace(asked, **changes)


def expected_predictions(run: Run, models: RunModels, label: str, edits: list[Edit]) -> np.ndarray:
    rows = run.rows("SELECT text, label_id FROM documents ORDER BY document")
    texts = [row["text"] for row in rows if run.labels[row["label_id"]] == label]
    return np.array([int(naive(models.classifier, text, dict(models.saes), edits).argmax()) for text in texts])


@pytest.mark.parametrize("mode", ["error_preserving", "reconstruction"])
@pytest.mark.parametrize("positions", ["all", "last"])
def test_a_knockout_is_what_hooks_say(store: Path, run: Run, models: RunModels, mode: str, positions: str):
    for label in run.labels:
        asked = settings(run, label=label, mode=mode, positions=positions)
        found = knock_out(store, run, models, asked)
        rows = run.rows(
            "SELECT feature FROM feature_labels WHERE label_id = $label AND layer = 1 AND d_max IS NOT NULL "
            "ORDER BY d_max DESC, feature LIMIT 6",
            {"label": run.label_id(label)},
        )
        features = tuple(row["feature"] for row in rows)
        assert tuple(feature.feature for feature in found.features) == features
        own = run.label_id(label)
        before = expected_predictions(run, models, label, []) == own
        after = expected_predictions(run, models, label, [Edit(1, features, mode, positions)])
        assert found.documents == len(before)
        assert found.recall_before == pytest.approx(before.mean())
        assert found.recall_after == pytest.approx((after == own).mean())
        assert found.delta == pytest.approx(100 * ((after == own).mean() - before.mean()))
        lost = after[before & (after != own)]
        assert sum(place.documents for place in found.lost) == len(lost)
        assert {place.label: place.documents for place in found.lost} == {
            run.labels[number]: int((lost == number).sum()) for number in set(lost.tolist())
        }
        assert found.gained == int((~before & (after == own)).sum())
        assert found.delta_low <= found.delta <= found.delta_high
        if mode == "reconstruction":
            plain = expected_predictions(run, models, label, [Edit(1, (), mode, positions)])
            assert found.recall_reconstructed == pytest.approx((plain == own).mean())
        else:
            assert found.recall_reconstructed is None


def test_an_empty_set_changes_nothing(store: Path, run: Run, models: RunModels):
    found = knock_out(store, run, models, settings(run, k=0))
    assert (found.delta, found.delta_low, found.delta_high) == (0, 0, 0)
    assert found.features == []
    assert found.lost == []
    assert found.control is None


def without_timings(result: KnockoutResult) -> KnockoutResult:
    return msgspec.structs.replace(result, timings=None)  # type: ignore[arg-type]


def test_the_controls_are_seeded_active_and_apart(store: Path, run: Run, models: RunModels):
    one = knock_out(store, run, models, settings(run, seed=1))
    again = knock_out(store, run, models, settings(run, seed=1))
    assert without_timings(one) == without_timings(again)
    taken = [LayerFeature(each.layer, each.feature) for each in one.features]
    drawn = draw_controls(run, taken, 3, 1)
    assert drawn != draw_controls(run, taken, 3, 2)
    active = {
        row["feature"] for row in run.rows("SELECT feature FROM features WHERE layer = 1 AND active_positions > 0")
    }
    for control, sets in ((one.control, drawn.random), (one.density_control, drawn.matched)):
        assert control is not None
        deltas = [100 * (recall - one.recall_before) for recall in control.recalls]
        assert control.delta_mean == pytest.approx(np.mean(deltas))
        assert control.delta_sd == pytest.approx(np.std(deltas, ddof=1))
        for draw, recall in zip(sets, control.recalls, strict=True):
            assert len(draw) == len(set(draw)) == len(taken)
            assert {each.layer for each in draw} == {1}
            assert not set(draw) & set(taken)
            assert {each.feature for each in draw} <= active
            features = tuple(each.feature for each in draw)
            after = expected_predictions(run, models, run.labels[0], [Edit(1, features)])
            assert recall == pytest.approx((after == 0).mean())


def test_the_matched_control_is_about_as_active(run: Run):
    rows = run.rows("SELECT feature, active_positions AS n FROM features WHERE layer = 1 ORDER BY n DESC, feature")
    positions = {row["feature"]: row["n"] for row in rows}
    taken = [LayerFeature(1, row["feature"]) for row in rows[:4]]
    others = [row["feature"] for row in rows[4:] if row["n"] > 0]
    drawn = draw_controls(run, taken, 20, 0)
    nearest = set(others[: NEAREST + 3])
    assert all(each.feature in nearest for draw in drawn.matched for each in draw)
    mean = {
        name: np.mean([positions[each.feature] for draw in sets for each in draw])
        for name, sets in zip(("random", "matched"), drawn, strict=True)
    }
    assert mean["matched"] > mean["random"]


def test_macro_f1_is_sklearns(store: Path, run: Run, models: RunModels):
    rows = run.rows("SELECT label_id, predicted_id FROM documents ORDER BY document")
    own = np.array([row["label_id"] for row in rows])
    predicted = np.array([row["predicted_id"] for row in rows])
    found = knock_out(store, run, models, settings(run))
    there = sorted(set(own.tolist()))
    assert found.macro_f1_before == pytest.approx(f1_score(own, predicted, average="macro", labels=there))
    features = tuple(each.feature for each in found.features)
    predicted[own == 0] = expected_predictions(run, models, run.labels[0], [Edit(1, features)])
    assert found.macro_f1_after == pytest.approx(f1_score(own, predicted, average="macro", labels=there))


def test_features_of_several_layers_from_documents_by_id(store: Path, run: Run, models: RunModels):
    rows = run.rows("SELECT id, text, label_id FROM documents ORDER BY document")[::3]
    named = [LayerFeature(1, 3), LayerFeature(0, 7), LayerFeature(1, 20), LayerFeature(0, 7)]
    asked = KnockoutSettings(
        features=named, documents=[row["id"] for row in rows], details="logits", draws=2, positions="all"
    )
    found = knock_out(store, run, models, asked)
    assert [(each.layer, each.feature, each.d) for each in found.features] == [
        (0, 7, None),
        (1, 3, None),
        (1, 20, None),
    ]
    edits = [Edit(0, (7,)), Edit(1, (3, 20))]
    assert found.outcomes is not None
    for row, outcome in zip(rows, found.outcomes, strict=True):
        logits = naive(models.classifier, row["text"], dict(models.saes), edits)
        np.testing.assert_allclose(outcome.logits_after, logits.numpy(), atol=1e-4)
        plain = naive(models.classifier, row["text"], dict(models.saes), [])
        np.testing.assert_allclose(outcome.logits_before, plain.numpy(), atol=1e-4)
        assert (outcome.document, outcome.expected) == (row["id"], run.labels[row["label_id"]])
        assert outcome.before == run.labels[int(plain.argmax())]
        assert outcome.after == run.labels[int(logits.argmax())]
        assert outcome.probability_after == pytest.approx(float(logits.softmax(0)[row["label_id"]]), abs=1e-4)
    right = [
        row["id"] for row, each in zip(rows, found.outcomes, strict=True) if each.expected == each.before == each.after
    ]
    assert found.survived == right
    assert found.macro_f1_before is not None


def test_texts_are_expected_to_stay_what_they_are(store: Path, run: Run, models: RunModels):
    texts = [row["text"] for row in run.rows("SELECT text FROM documents ORDER BY document LIMIT 5")]
    found = knock_out(
        store, run, models, KnockoutSettings(features=[LayerFeature(1, 3)], texts=texts, details="predictions")
    )
    assert found.recall_before == 1
    assert found.macro_f1_before is None
    assert found.outcomes is not None
    assert [each.document for each in found.outcomes] == ["0", "1", "2", "3", "4"]
    assert all(each.expected == each.before and each.logits_before is None for each in found.outcomes)
    labelled = knock_out(store, run, models, settings(run, texts=texts))
    before = [int(naive(models.classifier, text, {}, []).argmax()) for text in texts]
    assert labelled.recall_before == pytest.approx(np.mean([number == 0 for number in before]))


def test_questions_asked_together_are_answered_as_alone(store: Path, run: Run, models: RunModels):
    asked = [
        settings(run, layer=layer, k=k, seed=11, positions=positions)
        for layer in (0, 1)
        for k in (1, 5)
        for positions in ("all", "last")
    ]
    asked += [settings(run, label=run.labels[1], k=3, seed=11), asked[0]]
    progress = RecordedProgress()
    together = knock_out_all(store, run, lambda: models, asked, progress=progress)
    for each, found in zip(asked, together, strict=True):
        assert without_timings(found) == without_timings(knock_out(store, run, models, each))
    assert together[0].timings.together == 8
    assert progress.steps == sorted(progress.steps)
    documents = together[0].documents + together[-2].documents
    assert progress.steps[-1] == (documents, documents)

    def never() -> RunModels:
        raise AssertionError("everything is stored")

    assert knock_out_all(store, run, never, asked) == together


def test_passes_are_kept_and_forgotten(store: Path, run: Run, models: RunModels, monkeypatch: pytest.MonkeyPatch):
    fresh = with_nothing_kept(models)
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


def with_nothing_kept(models: RunModels) -> RunModels:
    """The same models with nothing kept."""
    return RunModels(models.classifier, models.saes)


def test_what_memory_does_not_hold_is_refused_before_it_runs(
    store: Path, run: Run, models: RunModels, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tegakari.analyses.engine.memory.free_bytes", lambda device: 1000)
    with pytest.raises(MemoryShortError, match="are free"):
        knock_out(store, run, with_nothing_kept(models), settings(run))


def test_an_answer_is_found_again(store: Path, run: Run, models: RunModels):
    asked = resolve(run, settings(run, layer=0, k=2))
    assert stored_knockout(store, run, asked) is None
    found = knock_out(store, run, models, asked)
    assert stored_knockout(store, run, asked) == found
    assert stored_knockout(store, run, msgspec.structs.replace(asked, k=3)) is None


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"label": "none"}, NotFoundError, "no label"),
        ({"layer": 9}, NotFoundError, "no layer 9"),
        ({"layer": None}, QueryError, "missing"),
        ({"k": 49}, NotFoundError, "not 49"),
        ({"k": 40}, NotFoundError, "cannot be drawn"),
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
def test_what_cannot_be_asked_is_said(
    store: Path, run: Run, models: RunModels, changes: dict, error: type[Exception], words: str
):
    with pytest.raises(error, match=words):
        knock_out(store, run, models, settings(run, **changes))
