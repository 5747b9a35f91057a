"""A store, a file of keys, and the command line's server over both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tegakari.service.admission.keys import create_key
from tests.support.factories import make_run
from tests.support.service import RUN
from tests.support.serving import KeyedServer, serving


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of one run; read only."""
    directory = tmp_path_factory.mktemp("store")
    make_run(directory, RUN)
    return directory


@pytest.fixture(scope="module", params=[1, 2], ids=["one-process", "workers"])
def keyed_server(
    request: pytest.FixtureRequest, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KeyedServer]:
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    read_key, _ = create_key(keys, "reader", "read")
    compute_key, _ = create_key(keys, "computer", "compute")
    options = ("--store", store, "--keys", keys, "--workers", str(request.param), "--log", "off")
    with serving(*options) as (url, _):
        address = urlsplit(url)
        assert address.hostname
        assert address.port
        yield KeyedServer(address.hostname, address.port, read_key, compute_key)
