"""The small indexed case of the indexer's tests."""

from tests.indexer.conftest import small_case

__all__ = ["small_case"]
