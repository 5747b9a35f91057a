"""Knockouts of a real small run, against predictions made document by document with hooks."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from tegakari.analyses.knockout import knock_out, stored_knockout
from tegakari.analyses.run_models import RunModels
from tegakari.models.interventions import Edit
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.knockout import KnockoutSettings
from tegakari.store import Run
from tests.models.test_interventions import naive


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


def test_the_control_is_seeded_active_and_apart(store: Path, run: Run, models: RunModels):
    one = knock_out(store, run, models, settings(run, seed=1))
    again = knock_out(store, run, models, settings(run, seed=1))
    assert one == again
    assert one.control is not None
    assert len(one.control.recalls) == 3
    deltas = [100 * (recall - one.recall_before) for recall in one.control.recalls]
    assert one.control.delta_mean == pytest.approx(np.mean(deltas))
    assert one.control.delta_sd == pytest.approx(np.std(deltas, ddof=1))


def test_an_answer_is_found_again(store: Path, run: Run, models: RunModels):
    asked = settings(run, layer=0, k=2)
    assert stored_knockout(store, run, asked) is None
    found = knock_out(store, run, models, asked)
    assert stored_knockout(store, run, asked) == found
    assert stored_knockout(store, run, msgspec.structs.replace(asked, k=3)) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": "none"}, "no label"),
        ({"layer": 9}, "no layer 9"),
        ({"k": 49}, "not 49"),
        ({"k": 40}, "cannot be drawn"),
    ],
)
def test_what_cannot_be_asked_is_said(store: Path, run: Run, models: RunModels, changes: dict, words: str):
    with pytest.raises(NotFoundError, match=words):
        knock_out(store, run, models, settings(run, **changes))
