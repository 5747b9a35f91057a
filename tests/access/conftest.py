"""The same drawn store twice: its directory, and a service over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tegakari
from tegakari.store.vectors import publish_added
from tests.support.factories import D_MODEL, LABELS, make_run, random_case
from tests.support.serving import serving

RUN = "demo-jpn"


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("store")
    manifest = make_run(store, RUN)
    random = np.random.default_rng(5)
    directions = {layer: random.normal(size=(40, D_MODEL)).astype(np.float32) for layer in range(3)}
    embeddings = random.normal(size=(6 * len(LABELS), D_MODEL)).astype(np.float32)
    publish_added(store, manifest, directions, [embeddings], [document.text for document in random_case().documents])
    make_run(store, "other", seed=1)
    return store


@pytest.fixture(scope="session")
def local(directory: Path) -> tegakari.Store:
    return tegakari.open(directory)


@pytest.fixture(scope="session")
def remote(directory: Path) -> Iterator[tegakari.Store]:
    with serving("--store", directory) as (url, _):
        yield tegakari.connect(url)


@pytest.fixture(params=["directory", "service"])
def store(request: pytest.FixtureRequest) -> tegakari.Store:
    return request.getfixturevalue("local" if request.param == "directory" else "remote")
