"""A run to push, and a proxy before the S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.object_storage import Proxy, make_plain_run


@pytest.fixture(scope="session")
def pushed_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the run `drawn`; not to be changed."""
    store = tmp_path_factory.mktemp("pushed")
    make_plain_run(store, "drawn")
    return store


@pytest.fixture
def proxy(s3_endpoint: str, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Stands before the server; programs in this process use it."""
    proxy = Proxy(s3_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
    yield proxy
    proxy.close()
