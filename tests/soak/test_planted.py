"""Knockouts find the clues planted in the demo: a single clue is easily ablated, many are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest

from tegakari.analyses.engine.run_models import RunModels, load_run_models
from tegakari.analyses.knockout import knock_out_all, sweeps
from tegakari.analyses.knockout.mean import knockout_mean
from tegakari.demo.communities import COMMUNITIES
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.store import Run, Store
from tests.support.soak_length import SOAK

DEMO_STORE = os.environ.get("TEGAKARI_DEMO_STORE", "")
"""Store of a finished demo (`make demo-index`)."""

pytestmark = pytest.mark.skipif(
    not (SOAK or DEMO_STORE), reason="needs a trained demo: TEGAKARI_DEMO_STORE, or `make soak`"
)

ABLATED_FEATURES = 5
"""Number of features to ablate; a layer has 512."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if DEMO_STORE:
        return Path(DEMO_STORE)
    directory = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-c", "from tegakari.cli import main; main()", "demo", "--no-serve"]
    subprocess.run([*command, str(directory)], check=True)
    return directory / "store"


@pytest.fixture(scope="module", params=["demo-jpn", "demo-base"])
def run(request: pytest.FixtureRequest, demo: Path) -> Run:
    return Store(demo).run(request.param)


@pytest.fixture(scope="module")
def models(run: Run) -> RunModels:
    return load_run_models(run, "cpu")


def test_labels_of_one_clue_lose_more_recall_than_labels_of_many(demo: Path, run: Run, models: RunModels):
    def largest_loss(label: str) -> float:
        settings = KnockoutSettings(label=label, k=ABLATED_FEATURES, draws=0)
        (results,) = sweeps.over_layers(demo, run, lambda: models, [settings])
        return min(result.delta for result in results)

    by_dependence: dict[str, list[float]] = {}
    for community in COMMUNITIES:
        by_dependence.setdefault(community.dependence, []).append(largest_loss(community.label))
    single, redundant = fmean(by_dependence["single"]), fmean(by_dependence["redundant"])
    assert single < -60
    assert single < redundant
    if run.name == "demo-base":  # demo-jpn has features of the labels themselves, whose loss costs all recall of any
        assert single < redundant - 10


def test_random_features_change_almost_nothing(demo: Path, run: Run, models: RunModels):
    settings = [KnockoutSettings(label=label, layer=2, k=20) for label in run.labels]
    results: list[KnockoutResult] = knock_out_all(demo, run, lambda: models, settings)
    for control in ("control", "density_control"):
        deltas = [getattr(result, control).delta_mean for result in results]
        assert abs(fmean(deltas)) < 1.5
        assert max(map(abs, deltas)) < 8


def test_planted_clues_are_beyond_their_control_on_held_out_documents(demo: Path, run: Run, models: RunModels):
    settings = KnockoutSettings(holdout=True)
    knockouts = sweeps.over_labels(demo, run, lambda: models, run.labels, settings)
    beyond = {result.settings.label: result.beyond_control for result in knockouts.results}
    assert all(beyond[community.label] for community in COMMUNITIES if community.dependence == "single")
    assert knockout_mean(knockouts.results).shown
