"""Where a question is answered: what memory holds already on the event loop, what may take its time in a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from weakref import WeakSet

from litestar.concurrency import sync_to_thread

from tegakari.store import Run

T = TypeVar("T")

_WARM: WeakSet[Run] = WeakSet()
"""Runs whose blocks are mapped: a question of theirs takes less time than its way to a thread and back."""


async def read_blocks(run: Run, question: Callable[[], T]) -> T:
    """Answer a question that the blocks answer with a slice; the first one of a run opens its files in a thread."""
    if run in _WARM:
        return question()
    answer = await sync_to_thread(question)
    _WARM.add(run)
    return answer
