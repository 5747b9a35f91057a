"""First results of the newest run, computed after the service starts, so that no request waits for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog

from tegakari.schemas.config import Warm
from tegakari.schemas.errors import TegakariError
from tegakari.service.engine.preload import load_models_of
from tegakari.service.engine.queue import ModelQueue
from tegakari.store import Run, Store

log = structlog.get_logger()


class WarmUp:
    """Computes results of the newest run in the background."""

    def __init__(
        self, store: Store, model_queue: ModelQueue | None, warm: Warm, reads: Sequence[Callable[[Run], Any]]
    ) -> None:
        """Remember what to compute.

        Args:
            store: of the service.
            model_queue: loads the run's models if `warm` says so; None: another process runs models.
            warm: off, queries or models.
            reads: computed without models; their results are cached where the routes look for them.
        """
        self._store = store
        self._model_queue = model_queue
        self._warm: Warm = warm
        self._reads = reads
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; the service answers requests meanwhile."""
        if self._warm != "off":
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End before the next result."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        started = time.perf_counter()
        run = await asyncio.to_thread(_newest_run, self._store)
        if run is None:
            return
        for read in self._reads:
            with _logged(run):
                await asyncio.to_thread(read, run)
        if self._warm == "models" and self._model_queue is not None:
            with _logged(run):
                await load_models_of(run, self._model_queue)
        log.info("warmed up", run=run.name, seconds=round(time.perf_counter() - started, 2))


@contextmanager
def _logged(run: Run) -> Iterator[None]:
    """Log an error instead of raising it: a request for the result gets the same one."""
    try:
        yield
    except TegakariError as error:
        log.info("not warmed up", run=run.name, reason=error.message)


def _newest_run(store: Store) -> Run | None:
    return max(store.runs(), key=lambda run: run.manifest.created, default=None)
