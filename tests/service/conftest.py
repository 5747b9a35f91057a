"""A store with two drawn runs, the application over it in-process, and `tegakari serve` over it on a port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from litestar.testing import TestClient

from tegakari.indexer.pipeline import index
from tegakari.store import Store
from tegakari.store.vectors import publish_added
from tests.support.factories import Case, make_run, random_case
from tests.support.live_case import LiveCase
from tests.support.service import DIRECTIONS, EMBEDDINGS, RUN, UNEVEN, UNEVEN_DOCUMENTS, client_of
from tests.support.serving import serving
from tests.support.small_case import SmallCase, with_index


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: tests that publish or delete runs make their own store."""
    directory = tmp_path_factory.mktemp("store")
    manifest = make_run(directory, RUN)
    texts = [document.text for document in random_case().documents]
    publish_added(directory, manifest, DIRECTIONS, [EMBEDDINGS], texts)
    make_run(directory, UNEVEN, seed=1, layers=1, documents_per_label=UNEVEN_DOCUMENTS, pooling="max")
    return directory


@pytest.fixture(scope="session")
def case() -> Case:
    """The case that the run RUN is made from."""
    return random_case()


@pytest.fixture(scope="session")
def client(store: Path) -> Iterator[TestClient]:
    with client_of(store) as client:
        yield client


@pytest.fixture(scope="module")
def live_case(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCase]:
    """A run whose models are on this machine, indexed from them."""
    directory = tmp_path_factory.mktemp("live")
    index(with_index(small_case, directory, pooling="max"))
    texts = {id_: text for id_, _, split, text in small_case.documents if split == "eval"}
    with client_of(directory) as client:
        yield LiveCase(directory, Store(directory).run("small"), client, texts, small_case)


@pytest.fixture(scope="session")
def server(store: Path) -> Iterator[httpx.Client]:
    with serving("--store", store, "--log", "off") as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        yield client
