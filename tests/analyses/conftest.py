"""A small indexed run with its models, and a run of random activations."""

from __future__ import annotations

from pathlib import Path

import pytest

from tegakari.analyses.engine.run_models import RunModels, load_run_models
from tegakari.indexer.pipeline import index
from tegakari.store import Run, Store
from tests.support.factories import Case, make_run, random_case
from tests.support.small_case import SmallCase, with_index


@pytest.fixture(scope="package")
def store(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("analyses") / "store"
    index(with_index(small_case, directory))
    return directory


@pytest.fixture(scope="package")
def run(store: Path) -> Run:
    return Store(store).run("small")


@pytest.fixture(scope="package")
def models(run: Run) -> RunModels:
    return load_run_models(run, "cpu")


@pytest.fixture(scope="package")
def random_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Case]:
    """A run without models, and what it was made from."""
    directory = tmp_path_factory.mktemp("drawn")
    make_run(directory, "drawn")
    return Store(directory).run("drawn"), random_case()
