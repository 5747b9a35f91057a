"""A store of one run, with and without vectors, and applications over it, with and without keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tegakari.service.admission.keys import create_key
from tegakari.store import Run, Store
from tegakari.store.vectors import publish_added
from tests.support.asgi import AsgiClient, KeyedClient, asgi_client
from tests.support.factories import make_run, random_case
from tests.support.service import DIRECTIONS, EMBEDDINGS, RUN


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    directory = tmp_path_factory.mktemp("store")
    manifest = make_run(directory, RUN)
    publish_added(
        directory, manifest, DIRECTIONS, [EMBEDDINGS], [document.text for document in random_case().documents]
    )
    return directory


@pytest.fixture(scope="session")
def run(store: Path) -> Run:
    return Store(store).run(RUN)


@pytest.fixture(scope="session")
def client(store: Path) -> Iterator[AsgiClient]:
    """Of a service without keys."""
    with asgi_client(store) as client:
        yield client


@pytest.fixture(scope="session")
def keyed(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedClient]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    read_key, _ = create_key(file, "reader", "read")
    compute_key, _ = create_key(file, "computer", "compute")
    with asgi_client(store, keys=file) as client:
        yield KeyedClient(client, read_key, compute_key)
