"""Routes for orchestrators: liveness and readiness."""

from __future__ import annotations

import asyncio
import os
from typing import Literal

import msgspec
from litestar import get
from litestar.di import NamedDependency

from tegakari.schemas.errors import NotReadyError
from tegakari.service.engine.jobs import Jobs
from tegakari.service.engine.preload import Preload
from tegakari.service.http.operations import PUBLIC
from tegakari.service.http.problems import described
from tegakari.store import Store


class Health(msgspec.Struct, frozen=True):
    """The process is running."""

    status: Literal["ok"] = "ok"


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """The store can be read, and the models that the service loads at its start are in memory."""

    status: Literal["ready"] = "ready"
    runs: int
    """published runs"""
    preloaded: int
    """runs whose models were loaded at the start"""


@get(
    "/healthz",
    operation_id="getHealth",
    summary="Liveness",
    responses=described(400),
    sync_to_thread=False,
    opt=PUBLIC,
)
def get_health() -> Health:
    """Returns 200 while the process is running."""
    return Health()


@get(
    "/readyz",
    operation_id="getReadiness",
    summary="Readiness",
    responses=described(400, 503),
    opt=PUBLIC,
)
async def get_readiness(
    store: NamedDependency[Store], preload: NamedDependency[Preload], jobs: NamedDependency[Jobs]
) -> Readiness:
    """Returns 503 while the store cannot be read, models are loaded at the start, or the server is being stopped.

    A store without runs is ready.
    """
    if jobs.draining:
        raise NotReadyError("the server is being stopped", fix="send requests to another server")
    runs = await asyncio.to_thread(_published_runs, store)
    missing = await preload.missing()
    if missing is not None:
        raise NotReadyError(missing, fix="wait until GET /readyz returns 200; queries and stored results need no model")
    return Readiness(runs=runs, preloaded=len(preload.names))


def _published_runs(store: Store) -> int:
    try:
        os.scandir(store.directory).close()
        return len(store.names())
    except OSError as error:
        raise NotReadyError(
            f"the store cannot be read: {error.strerror}", fix="check `--store` and the permissions of that directory"
        ) from None


HANDLERS = (get_health, get_readiness)
