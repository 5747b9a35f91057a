"""A study of two small runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tegakari.analyses.engine.run_models import load_run_models
from tegakari.analyses.study import study
from tegakari.indexer.pipeline import index
from tegakari.schemas.circuit import CircuitSettings
from tegakari.schemas.study import StudyResult, StudySettings
from tegakari.store import Run, Store
from tests.support.known_concepts import CONCEPTS
from tests.support.small_case import SmallCase, with_index


@pytest.fixture(scope="package")
def settings() -> StudySettings:
    return StudySettings(k=4, draws=2, ks=[4, 9], circuit=CircuitSettings(pairs=30, min_cosine=-1.0))


@pytest.fixture(scope="package")
def two_runs(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Run]]:
    store = tmp_path_factory.mktemp("study") / "store"
    for name in ("small", "other"):
        index(with_index(small_case, store, run=name))
    return store, [Store(store).run(name) for name in ("small", "other")]


@pytest.fixture(scope="package")
def result(two_runs: tuple[Path, list[Run]], settings: StudySettings) -> StudyResult:
    store, runs = two_runs
    return study(store, runs, lambda run: lambda: load_run_models(run, "cpu"), settings, concepts=CONCEPTS)
