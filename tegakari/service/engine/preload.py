"""Models of runs that are loaded when the service starts; it is ready once they are in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import httpx
import msgspec
import structlog

from tegakari.schemas.errors import TegakariError
from tegakari.schemas.problem import Problem
from tegakari.schemas.progress import Progress
from tegakari.service.engine.model_requests import BatchWork
from tegakari.service.engine.queue import ModelQueue
from tegakari.store import Run, Store

if TYPE_CHECKING:
    from tegakari.analyses.engine.model_loader import ModelLoader

log = structlog.get_logger()


def _load_models(load_models: ModelLoader, payloads: Sequence[None], _progress: Progress) -> Sequence[None]:
    load_models()
    return payloads


_LOAD_MODELS = BatchWork[None, None](_load_models)


async def load_models_of(run: Run, model_queue: ModelQueue) -> None:
    """Load the models of a run; they stay in memory as those of a request do.

    Raises:
        ModelNotHereError: they are not on this machine.
        BusyError: the queue is full, or the service is shutting down.
    """
    await model_queue.submit(run, _LOAD_MODELS, None, deadline=float("inf"))


class Preload:
    """Loads the models of runs in the background, one after the other."""

    def __init__(
        self, store: Store, names: Sequence[str], model_queue: ModelQueue, models_client: httpx.AsyncClient | None
    ) -> None:
        """Remember what to load.

        Args:
            store: of the service.
            names: of the runs.
            model_queue: loads them.
            models_client: of the process that loads them in place of this one; None: this one.
        """
        self.names = list(names)
        self._store = store
        self._model_queue = model_queue
        self._models_client = models_client
        self._loading = set(names)
        self._failed: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; the service answers requests meanwhile."""
        if self.names and self._models_client is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End before the next run."""
        if self._task is not None:
            self._task.cancel()

    async def missing(self) -> str | None:
        """Why not all of the models are in memory, without names: anyone can read it. None once they are."""
        if not self.names:
            return None
        if self._models_client is not None:
            return await self._missing_elsewhere(self._models_client)
        if self._failed:
            return f"the models of {len(self._failed)} runs could not be loaded: the log of the server says why"
        return f"the models of {len(self._loading)} runs are loading" if self._loading else None

    async def _missing_elsewhere(self, models_client: httpx.AsyncClient) -> str | None:
        try:
            response = await models_client.get("http://models/readyz")
            return None if response.is_success else msgspec.json.decode(response.content, type=Problem).detail
        except (httpx.TransportError, msgspec.DecodeError):
            return "the model process is starting"

    async def _run(self) -> None:
        for name in self.names:
            started = time.perf_counter()
            try:
                run = await asyncio.to_thread(self._store.run, name)
                await load_models_of(run, self._model_queue)
            except TegakariError as error:
                log.warning("models not loaded", run=name, reason=error.message)
                self._failed.add(name)
            else:
                log.info("models preloaded", run=name, seconds=round(time.perf_counter() - started, 2))
            self._loading.discard(name)
