"""A store with two drawn runs, the application over it in-process, and the command line's server over it on a port."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from litestar.testing import TestClient

from tegakari.indexer.pipeline import index
from tegakari.service.app import create_app
from tegakari.store import Store
from tegakari.store.vectors import publish_added
from tests.support.factories import D_MODEL, LABELS, Case, make_run, random_case
from tests.support.live_case import LiveCase
from tests.support.small_case import SmallCase, with_index

RUN = "demo-jpn"
UNEVEN = "uneven"
UNEVEN_DOCUMENTS = (6, 1, 0, 2, 3, 4)
"""A label with one document and a label with none."""


_RNG = np.random.default_rng(5)
DIRECTIONS = {layer: _RNG.normal(size=(40, D_MODEL)).astype(np.float32) for layer in range(3)}
"""Decoder directions of the run RUN."""
EMBEDDINGS = _RNG.normal(size=(6 * len(LABELS), D_MODEL)).astype(np.float32)


def segment(text: str) -> str:
    """Text as one segment of a path."""
    return quote(text, safe="")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: tests that publish or delete make their own."""
    directory = tmp_path_factory.mktemp("store")
    manifest = make_run(directory, RUN)
    drawn = random_case()
    publish_added(directory, manifest, DIRECTIONS, EMBEDDINGS, [document.text for document in drawn.documents])
    make_run(directory, UNEVEN, seed=1, layers=1, documents_per_label=UNEVEN_DOCUMENTS, pooling="max")
    return directory


@pytest.fixture(scope="session")
def case() -> Case:
    """What the run RUN is made of."""
    return random_case()


@contextmanager
def client_of(directory: Path) -> Iterator[TestClient]:
    with TestClient(create_app(directory), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def client(store: Path) -> Iterator[TestClient]:
    with client_of(store) as opened:
        yield opened


@pytest.fixture(scope="module")
def live_case(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCase]:
    """A run whose models are on this machine, indexed for real."""
    directory = tmp_path_factory.mktemp("live")
    index(with_index(small_case, directory, pooling="max"))
    texts = {id_: text for id_, _, split, text in small_case.documents if split == "eval"}
    with client_of(directory) as opened:
        yield LiveCase(directory, Store(directory).run("small"), opened, texts, small_case)


def get(client: TestClient | httpx.Client, path: str, **parameters: object) -> Any:
    """The JSON of a good answer."""
    response = client.get(path, params={name: str(value) for name, value in parameters.items()})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


@contextmanager
def serving(*arguments: str | Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`tegakari serve` on a free port: its address, and the process, which is killed at the end if it still runs."""
    command = [sys.executable, "-c", "from tegakari.cli import main; main()", "serve", "--port", "0"]
    with subprocess.Popen([*command, *map(str, arguments)], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if found := re.search(r'url"?[=:] ?"?(http://[^\s"]+)', line):
                    break
            else:
                raise AssertionError("".join(said))
            yield found[1], process
        finally:
            process.kill()


@pytest.fixture(scope="session")
def server(store: Path) -> Iterator[httpx.Client]:
    with serving("--store", store) as (url, _), httpx.Client(base_url=url, timeout=20) as client:
        yield client
