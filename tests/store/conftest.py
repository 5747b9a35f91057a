"""Runs that several tests of the store read."""

from __future__ import annotations

import pytest

from tegakari.schemas.config import POOLINGS
from tegakari.store import Run, Store
from tests.support.factories import UNEVEN_COUNTS, make_run


@pytest.fixture(scope="session", params=POOLINGS)
def uneven_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of UNEVEN_COUNTS documents per label, for each pooling; not to be changed."""
    store = tmp_path_factory.mktemp("store")
    make_run(store, "drawn", documents_per_label=UNEVEN_COUNTS, pooling=request.param)
    return Store(store).run("drawn")
