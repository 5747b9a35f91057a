"""The Litestar application over one store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from litestar import Litestar, Request, Router
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from tegakari.schemas.config import ServiceConfig
from tegakari.service.admission.gate import Gate
from tegakari.service.admission.keys import KeyRing, require_scope
from tegakari.service.admission.limits import Rates
from tegakari.service.engine.forward_to_models import ForwardToModelProcess, models_client
from tegakari.service.engine.jobs import Jobs
from tegakari.service.engine.queue import ModelQueue
from tegakari.service.engine.sql_processes import Sandboxes
from tegakari.service.http.etags import RunOfRequest, run_of_request
from tegakari.service.http.negotiation import Answer
from tegakari.service.http.parameters import RunName, refuse_unknown_parameters
from tegakari.service.http.paths import encoded_path
from tegakari.service.http.problems import EXCEPTION_HANDLERS
from tegakari.service.routes import analyses, documents, features, health, inference, knockouts, runs, sql
from tegakari.service.routes import search as near
from tegakari.service.routes.reference import openapi_config
from tegakari.store import Run, Store

OF_A_RUN = (
    *runs.HANDLERS,
    *features.HANDLERS,
    *documents.HANDLERS,
    *near.HANDLERS,
    *inference.HANDLERS,
    *knockouts.OF_A_RUN,
    *analyses.OF_A_RUN,
)
"""Route handlers below /v1/runs/{run}; each is given the open run as `opened`."""

BELOW_V1 = (runs.list_runs, *sql.HANDLERS, *knockouts.HANDLERS, *analyses.HANDLERS)
"""The other route handlers below /v1."""


QUIET = ServiceConfig(log="off")
"""The default limits, without a line of log a request."""


class Api(Litestar):
    """Litestar behind its front, routing by the encoded path; HEAD is answered where GET is."""

    front: Gate | None
    """None behind another process's, which has admitted the request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # pyright: ignore
        if scope["type"] != ScopeType.HTTP:
            await super().__call__(scope, receive, send)  # pyright: ignore
            return
        # The server keeps its own scope, knows that the method is HEAD, and leaves the body out.
        original = scope["method"]
        method = "GET" if original == "HEAD" else original
        scope = {**scope, "path": encoded_path(scope), "method": method}  # pyright: ignore
        scope.setdefault("state", {})["head"] = method != original
        if self.front is None:
            await super().__call__(scope, receive, send)  # pyright: ignore
            return
        await self.front(scope, receive, send, super().__call__)  # pyright: ignore


def create_app(
    store: Path,
    config: ServiceConfig = QUIET,
    *,
    keys: Path | None = None,
    shared: Path | None = None,
    behind: bool = False,
) -> Api:
    """Build the API over a store; runs published or deleted later are noticed.

    Args:
        store: the store's directory; it need not be there yet.
        config: its limits.
        keys: file of API keys; once it is there, every request needs one. None: no keys.
        shared: directory in which the workers of one service count together, and reach the process that runs models
            for all of them; None: it is one process.
        behind: it is that process: whoever reaches it has been admitted.

    Raises:
        ConfigError: the file of keys is damaged.
    """
    of_a_run = Router(
        "/runs/{run:str}",
        route_handlers=OF_A_RUN,
        middleware=[RunOfRequest()],
        dependencies={"opened": Provide(_opened, sync_to_thread=False)},
    )
    v1 = Router(
        "/v1",
        route_handlers=[*BELOW_V1, of_a_run],
        before_request=_check,
        response_class=Answer,
        middleware=[ForwardToModelProcess()] if shared else [],
    )
    live, sandboxes = ModelQueue(), Sandboxes()
    jobs = Jobs(store, live)
    models = models_client(shared) if shared else None
    app = Api(
        [health.ROUTER, v1],
        state=State({"store": Store(store), "live": live, "jobs": jobs, "sandboxes": sandboxes, "models": models}),
        dependencies={
            "store": Provide(_store, sync_to_thread=False),
            "live": Provide(_live, sync_to_thread=False),
            "jobs": Provide(_jobs, sync_to_thread=False),
            "sandboxes": Provide(_sandboxes, sync_to_thread=False),
        },
        on_startup=[] if shared else [jobs.mark_interrupted],  # those of the process that runs the models
        on_shutdown=[jobs.close, live.close, sandboxes.close],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=openapi_config(),
        cors_config=_cors(config.cors_origins),
        request_max_body_size=config.max_body_bytes,
        logging_config=None,  # failures are logged once, where they become problems
    )
    rates = Rates(shared / "rates" if shared else None)
    app.front = None if behind else Gate(config, keys=KeyRing(keys), rates=rates)
    return app


async def _check(request: Request[Any, Any, Any]) -> None:
    # Not as a guard: Litestar copies the route for each, and runs it in a thread.
    require_scope(request.scope)
    refuse_unknown_parameters(request)


def _cors(origins: list[str]) -> CORSConfig | None:
    if not origins:
        return None
    headers = ["Authorization", "X-API-Key", "Content-Type", "If-None-Match"]
    return CORSConfig(allow_origins=origins, allow_methods=["GET", "POST", "DELETE"], allow_headers=headers)


def _store(state: State) -> Store:
    return state.store


def _live(state: State) -> ModelQueue:
    return state.live


def _jobs(state: State) -> Jobs:
    return state.jobs


def _sandboxes(state: State) -> Sandboxes:
    return state.sandboxes


def _opened(request: Request[Any, Any, Any], run: RunName) -> Run:
    # The name is taken to have it described; the run itself is open already.
    return run_of_request(request.scope)
