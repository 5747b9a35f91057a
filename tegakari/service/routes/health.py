"""Whether the process lives, and whether it can answer."""

from __future__ import annotations

import os
from typing import Any, Literal

import msgspec
from litestar import Request, Response, Router, get
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from tegakari.schemas.errors import NotReadyError
from tegakari.service.http.parameters import refuse_unknown_parameters
from tegakari.service.http.problems import described
from tegakari.service.observe.metrics import SHARED_DIRECTORY
from tegakari.store import Store


class Health(msgspec.Struct, frozen=True):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """The store can be read."""

    status: Literal["ready"] = "ready"
    runs: int
    """published runs"""


@get("/healthz", operation_id="getHealth", summary="Liveness", responses=described(400), sync_to_thread=False)
def healthz() -> Health:
    """Answers as long as the process runs."""
    return Health()


@get("/readyz", operation_id="getReadiness", summary="Readiness", responses=described(400, 503), sync_to_thread=True)
def readyz(store: NamedDependency[Store]) -> Readiness:
    """Answers 503 as long as the store cannot be read. A store without runs is ready."""
    try:
        os.scandir(store.directory).close()
        return Readiness(runs=len(store.names()))
    except OSError as error:
        raise NotReadyError(
            f"the store cannot be read: {error.strerror}", fix="check `--store` and the permissions of that directory"
        ) from None


@get(
    "/metrics",
    operation_id="getMetrics",
    summary="Metrics",
    media_type="text/plain",
    responses=described(400),
    sync_to_thread=True,
)
def metrics() -> Response[bytes]:
    """Counters and timings in Prometheus' text format, of all workers together."""
    registry = REGISTRY
    if os.environ.get(SHARED_DIRECTORY):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


async def _check(request: Request[Any, Any, Any]) -> None:
    refuse_unknown_parameters(request)


ROUTER = Router(
    "/",
    route_handlers=[healthz, readyz, metrics],
    before_request=_check,
    cache_control=CacheControlHeader(no_store=True),
)
