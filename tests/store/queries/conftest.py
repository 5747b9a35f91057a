"""Runs with vectors."""

from __future__ import annotations

import pytest

from tests.support.vectors_case import VectorsCase, make_vectors_case


@pytest.fixture(scope="session")
def vectors_case(tmp_path_factory: pytest.TempPathFactory) -> VectorsCase:
    """Not to be changed."""
    return make_vectors_case(tmp_path_factory.mktemp("store"))
