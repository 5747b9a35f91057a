"""Settings that a study of these runs cannot have are refused before a model is loaded."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tegakari.analyses.engine.model_loader import ModelLoader
from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.knockout.smallest import smallest_set
from tegakari.analyses.study import study
from tegakari.analyses.study.settings import complete_settings
from tegakari.schemas.errors import TegakariError
from tegakari.schemas.knockout import SmallestSetSettings
from tegakari.schemas.study import StudySettings
from tegakari.store import Run
from tests.support.known_concepts import CONCEPTS
from tests.support.small_case import D_SAE


def never() -> RunModels:
    raise AssertionError("a model is loaded")


def never_of(_: Run) -> ModelLoader:
    return never


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ks": [20, 100]}, f"a layer has {D_SAE} features, too few for sets of 100"),
        ({"k": 1000}, "features with a d for"),
        ({"k": 1000, "layer": 1}, "features with a d for"),
        ({"k": D_SAE // 2 + 1, "layer": 1, "draws": 1}, "features"),
        ({"layer": 7}, "no layer 7"),
        ({"layer": {"small": 1, "other": 7}}, "run 'other' has no layer 7"),
        ({"labels": ["none"]}, "no label 'none'"),
        ({"labels": ["none"], "layer": 1, "holdout": False}, "no label 'none'"),
        ({"pooling": "mean"}, "pooling is 'head'"),
    ],
)
def test_a_study_refuses_settings_before_any_work(
    two_runs: tuple[Path, list[Run]], settings: StudySettings, changes: dict[str, object], message: str
):
    store, runs = two_runs
    changed = msgspec.structs.replace(settings, **changes)
    with pytest.raises(TegakariError) as refusal:
        study(store, runs, never_of, changed, concepts=CONCEPTS)
    assert message in refusal.value.message
    assert refusal.value.fix


def test_the_sizes_of_sets_that_narrow_saes_lack_are_left_out(two_runs: tuple[Path, list[Run]]):
    _, runs = two_runs
    assert complete_settings(StudySettings(), runs, [], CONCEPTS).ks == [20]
    assert complete_settings(StudySettings(skip=["variants"]), runs, [], CONCEPTS).ks == []


def test_a_smallest_set_refuses_its_label_before_models_are_loaded(two_runs: tuple[Path, list[Run]]):
    store, (run, _) = two_runs
    with pytest.raises(TegakariError, match="no label 'none'"):
        smallest_set(store, run, never, SmallestSetSettings(label="none", layer=1))
