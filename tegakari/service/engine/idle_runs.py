"""Runs of a cache that no request names any more: closed, so that another process may evict them."""

from __future__ import annotations

import asyncio

from tegakari.store.cached import CachedStore

SECONDS = 10.0
"""Time between two looks."""


class IdleRuns:
    """Closes idle runs in the background."""

    def __init__(self, store: CachedStore) -> None:
        self._store = store
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SECONDS)
            self._store.release_idle()
