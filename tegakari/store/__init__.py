"""Runs on disk: written once, published atomically, read by everyone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tegakari.store.reader import Run, Store

__all__ = ["Run", "Store"]


def __getattr__(name: str) -> Any:
    # Listing runs needs run.json alone; DuckDB and Arrow are imported with the first run that is opened.
    if name in __all__:
        from tegakari.store import reader

        return getattr(reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
