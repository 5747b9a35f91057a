"""A real server over a store with a drawn run and one whose models are at hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tegakari.analyses.engine.run_models import load_run_models
from tegakari.analyses.study import study
from tegakari.client import Client
from tegakari.indexer.pipeline import index
from tegakari.schemas.circuit import CircuitSettings
from tegakari.schemas.study import StudySettings
from tegakari.store import Store
from tests.support.factories import make_run
from tests.support.known_concepts import CONCEPTS
from tests.support.service import RUN
from tests.support.serving import serving
from tests.support.small_case import SmallCase, with_index


@pytest.fixture(scope="session")
def store(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("client-store")
    make_run(directory, RUN)
    index(with_index(small_case, directory))
    run = Store(directory).run("small")
    models = load_run_models(run, "cpu")
    asked = StudySettings(k=2, draws=0, ks=[3], circuit=CircuitSettings(pairs=10, min_cosine=-1.0))
    study(directory, [run, run], lambda _: lambda: models, asked, concepts=CONCEPTS)
    return directory


@pytest.fixture(scope="session")
def address(store: Path) -> Iterator[str]:
    with serving("--store", store) as (url, _):
        yield url


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as opened:
        yield opened
