"""Queries that the mapped blocks of a run serve: on the event loop once mapped, in a thread before."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from weakref import WeakSet

from litestar.concurrency import sync_to_thread

from tegakari.store import Run

T = TypeVar("T")

_MAPPED: WeakSet[Run] = WeakSet()
"""Runs whose blocks are mapped: a query of theirs takes less time than its way to a thread and back."""


async def read_blocks(run: Run, query: Callable[[], T]) -> T:
    """Run a query that reads slices of a run's blocks; the run's first query opens their files in a thread."""
    if run in _MAPPED:
        return query()
    result = await sync_to_thread(query)
    _MAPPED.add(run)
    return result
