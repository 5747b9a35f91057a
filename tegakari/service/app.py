"""The Litestar application over one store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from litestar import Litestar, Request, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.handlers.base import BaseRouteHandler
from litestar.types import Receive, Scope, Send
from litestar.utils import normalize_path

from tegakari.schemas.config import ServiceConfig
from tegakari.service.admission.gate import Gate, is_long
from tegakari.service.admission.keys import KeyRing
from tegakari.service.admission.limits import Rates
from tegakari.service.engine.cost_limits import CostLimits
from tegakari.service.engine.forward_to_models import ForwardToModelProcess, models_client
from tegakari.service.engine.idle_runs import IdleRuns
from tegakari.service.engine.jobs import JobLimits, Jobs
from tegakari.service.engine.preload import Preload
from tegakari.service.engine.queue import MODELS_IN_MEMORY, ModelQueue
from tegakari.service.engine.sql_processes import SqlProcesses
from tegakari.service.engine.warm_up import WarmUp
from tegakari.service.explorer.page import APP_EXCEPTION_HANDLERS
from tegakari.service.explorer.router import explorer
from tegakari.service.http.etags import RunOfRequest
from tegakari.service.http.negotiation import NegotiatedResponse
from tegakari.service.http.operations import NO_STORE
from tegakari.service.http.parameters import refuse_unknown_parameters
from tegakari.service.http.paths import encoded_path
from tegakari.service.openapi.viewer import openapi_config
from tegakari.service.routes import (
    analyses,
    api_index,
    attribution,
    circuit,
    classification,
    classify,
    compare,
    cues,
    documents,
    encode,
    error_pages,
    explanations,
    features,
    health,
    knockouts,
    labels,
    metrics,
    notes,
    runs,
    search,
    sparsity,
    specificity,
    sql,
    variants,
)
from tegakari.store import Store
from tegakari.store.cached import CachedStore, open_store
from tegakari.store.disk.job_files import Retention

if TYPE_CHECKING:
    from tegakari.service.mcp.endpoint import McpEndpoint

RUN_HANDLERS = (
    *runs.RUN_HANDLERS,
    *labels.RUN_HANDLERS,
    *features.RUN_HANDLERS,
    *documents.RUN_HANDLERS,
    *explanations.RUN_HANDLERS,
    *notes.RUN_HANDLERS,
    *search.RUN_HANDLERS,
    *specificity.RUN_HANDLERS,
    *classification.RUN_HANDLERS,
    *sparsity.RUN_HANDLERS,
    *cues.RUN_HANDLERS,
    *circuit.RUN_HANDLERS,
    *variants.RUN_HANDLERS,
    *analyses.RUN_HANDLERS,
    *classify.RUN_HANDLERS,
    *encode.RUN_HANDLERS,
    *attribution.RUN_HANDLERS,
    *knockouts.RUN_HANDLERS,
)
"""Handlers of routes below /v1/runs/{run}."""

V1_HANDLERS = (
    *api_index.HANDLERS,
    *runs.HANDLERS,
    *analyses.HANDLERS,
    *compare.HANDLERS,
    *knockouts.HANDLERS,
    *sql.HANDLERS,
)
"""Handlers of the other routes below /v1."""

OPERATION_HANDLERS = (*health.HANDLERS, *metrics.HANDLERS)
"""Handlers of routes for those who run the service."""

QUIET = ServiceConfig(log="off", warm="off")
"""The default limits, without a line of log per request and without work at the start."""


class Api(Litestar):
    """Litestar behind the gate, with paths routed percent-encoded and HEAD wherever there is GET."""

    gate: Gate | None
    """None in the model process: the gate of a worker has admitted the request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # pyright: ignore
        if scope["type"] != ScopeType.HTTP:
            await super().__call__(scope, receive, send)  # pyright: ignore
            return
        # The server keeps its own scope, in which the method is HEAD, and leaves the body out.
        client_method = scope["method"]
        method = "GET" if client_method == "HEAD" else client_method
        path = normalize_path(encoded_path(scope))  # as the router does, so that both see the same path
        scope = {**scope, "path": path, "root_path": "", "method": method}  # pyright: ignore
        scope.setdefault("state", {})["head"] = method != client_method
        if self.gate is None:
            await super().__call__(scope, receive, send)  # pyright: ignore
            return
        route = None if is_long(scope) else self._route(path, method)
        await self.gate(scope, receive, send, super().__call__, route)  # pyright: ignore

    def _route(self, path: str, method: str) -> BaseRouteHandler | None:
        """The handler that the router chooses; None: it answers 404 or 405. The router keeps the result for itself."""
        try:
            return self.asgi_router.handle_routing(path=path, method=method)[1]  # pyright: ignore
        except HTTPException:
            return None


def create_app(
    store: Path,
    config: ServiceConfig = QUIET,
    *,
    keys: Path | None = None,
    shared: Path | None = None,
    behind_gate: bool = False,
) -> Api:
    """Build the API over a store; it notices runs that are published or deleted later.

    Args:
        store: the store's directory; it need not exist yet.
        config: the limits.
        keys: file of API keys; once it exists, every request needs one. None: no keys.
        shared: directory that the workers of a service share: they count together there and reach the model process.
            None: the service is one process.
        behind_gate: this is the model process: requests come from workers, which have admitted them.

    Raises:
        ConfigError: the file of keys is damaged.
    """
    run_router = Router("/runs/{run:str}", route_handlers=RUN_HANDLERS, middleware=[RunOfRequest()])
    v1_router = Router(
        "/v1",
        route_handlers=[*V1_HANDLERS, run_router],
        before_request=_check_parameters,
        response_class=NegotiatedResponse,
        middleware=[ForwardToModelProcess()] if shared else [],
    )
    operation_router = Router(
        "/", route_handlers=OPERATION_HANDLERS, before_request=_check_parameters, cache_control=NO_STORE
    )
    page_router = Router("/", route_handlers=error_pages.HANDLERS, before_request=_check_parameters)
    explorer_router = explorer()
    model_queue = ModelQueue(max_models=max(MODELS_IN_MEMORY, len(config.preload)))
    sql_processes = SqlProcesses()
    cost_limits = CostLimits(config.max_text_tokens, config.max_job_tokens)
    retention = Retention(config.job_days, config.job_bytes)
    jobs = Jobs(store, model_queue, cost_limits, JobLimits(config.job_seconds, retention))
    opened_store = open_store(store)
    warm_up = WarmUp(
        opened_store,
        None if shared else model_queue,
        config.warm,
        () if behind_gate else (sparsity.sparsity_of_run, search.first_search),
    )
    models_process = models_client(shared) if shared else None
    preload = Preload(opened_store, config.preload, model_queue, models_process)
    background = [preload, warm_up, *([IdleRuns(opened_store)] if isinstance(opened_store, CachedStore) else [])]
    state = {
        "store": opened_store,
        "model_queue": model_queue,
        "cost_limits": cost_limits,
        "jobs": jobs,
        "sql_processes": sql_processes,
        "models_client": models_process,
        "preload": preload,
        "limits": config,
    }
    endpoint = None if behind_gate or not config.mcp else _mcp_endpoint(config)
    app = Api(
        [operation_router, page_router, explorer_router, v1_router, *([endpoint.handler()] if endpoint else [])],
        state=State(state),
        dependencies={
            "store": Provide(_store, sync_to_thread=False),
            "model_queue": Provide(_model_queue, sync_to_thread=False),
            "cost_limits": Provide(_cost_limits, sync_to_thread=False),
            "jobs": Provide(_jobs, sync_to_thread=False),
            "sql_processes": Provide(_sql_processes, sync_to_thread=False),
            "limits": Provide(_limits, sync_to_thread=False),
            "preload": Provide(_preload, sync_to_thread=False),
        },
        lifespan=[endpoint.run] if endpoint else [],
        on_startup=[
            *([] if shared else [jobs.open]),  # with several workers, the model process has the jobs
            *(task.start for task in background),
        ],
        on_shutdown=[
            *(task.stop for task in background),
            jobs.drain,
            jobs.close,
            model_queue.close,
            sql_processes.close,
        ],
        exception_handlers=APP_EXCEPTION_HANDLERS,
        openapi_config=openapi_config(),
        request_max_body_size=config.max_body_bytes,
        logging_config=None,  # failures are logged once, where they become problems
    )
    rates = Rates(shared / "rates" if shared else None)
    app.gate = None if behind_gate else Gate(config, keys=KeyRing(keys), rates=rates)
    return app


def _mcp_endpoint(config: ServiceConfig) -> McpEndpoint:
    # Imported where it is configured: its packages are an extra, and slow to import.
    from tegakari.service.mcp.endpoint import McpEndpoint

    return McpEndpoint(config.max_body_bytes)


async def _check_parameters(request: Request[Any, Any, Any]) -> None:
    # Not as a guard: Litestar copies the route for each guard, and runs it in a thread.
    refuse_unknown_parameters(request)


def _store(state: State) -> Store:
    return state.store


def _model_queue(state: State) -> ModelQueue:
    return state.model_queue


def _cost_limits(state: State) -> CostLimits:
    return state.cost_limits


def _jobs(state: State) -> Jobs:
    return state.jobs


def _sql_processes(state: State) -> SqlProcesses:
    return state.sql_processes


def _preload(state: State) -> Preload:
    return state.preload


def _limits(state: State) -> ServiceConfig:
    return state.limits
