"""A run with planted features."""

from __future__ import annotations

import pytest

from tegakari.store import Run
from tests.support.planted_features import planted_run


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return planted_run(tmp_path_factory.mktemp("store"))
