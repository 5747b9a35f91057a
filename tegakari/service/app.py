"""The Litestar application over one store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from litestar import Litestar, Request, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from tegakari.service import documents, features, health, runs
from tegakari.service.caching import RunOfRequest, run_of_request
from tegakari.service.formats import Answer
from tegakari.service.front import Front
from tegakari.service.parameters import RunName, refuse_unknown_parameters
from tegakari.service.paths import encoded_path
from tegakari.service.problems import EXCEPTION_HANDLERS
from tegakari.service.reference import openapi_config
from tegakari.store import Run, Store

OF_A_RUN = (*runs.HANDLERS, *features.HANDLERS, *documents.HANDLERS)
"""Route handlers below /v1/runs/{run}; each is given the open run as `opened`."""

BELOW_V1 = (runs.list_runs,)
"""The other route handlers below /v1."""


class Api(Litestar):
    """Litestar behind its front, routing by the encoded path; HEAD is answered where GET is."""

    front: Front

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # pyright: ignore
        if scope["type"] != ScopeType.HTTP:
            await super().__call__(scope, receive, send)  # pyright: ignore
            return
        # The server keeps its own scope, knows that the method is HEAD, and leaves the body out.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        scope = {**scope, "path": encoded_path(scope), "method": method}  # pyright: ignore
        await self.front(scope, receive, send, super().__call__)  # pyright: ignore


def create_app(store: Path) -> Api:
    """Build the API over a store; runs published or deleted later are noticed.

    Args:
        store: the store's directory; it need not be there yet.
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
        before_request=refuse_unknown_parameters,
        response_class=Answer,
    )
    app = Api(
        [health.ROUTER, v1],
        state=State({"store": Store(store)}),
        dependencies={"store": Provide(_store, sync_to_thread=False)},
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=openapi_config(),
        logging_config=None,  # failures are logged once, where they become problems
    )
    app.front = Front()
    return app


def _store(state: State) -> Store:
    return state.store


def _opened(request: Request[Any, Any, Any], run: RunName) -> Run:
    # The name is taken to have it described; the run itself is open already.
    return run_of_request(request.scope)
