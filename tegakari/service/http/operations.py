"""Decorators of route handlers: what all reading routes share, and all routes that run models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import iscoroutinefunction
from typing import Any

from litestar import get, post
from litestar.datastructures import CacheControlHeader
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec

from tegakari.service.http.problems import documented

NO_CACHE = CacheControlHeader(no_cache=True)
NO_STORE = CacheControlHeader(no_store=True)

RUNS_MODELS = "runs_models"
"""Option of a route: the model process serves it, where several workers share one."""

PUBLIC = {"public": True}
"""Options of a route that needs no API key. Every other route needs one, and so does what matches no route."""

REFUSAL = "refusal"
"""Option of a route: a function of request and error that gives the response of the gate; default: a problem."""

FORM = "form"
"""Option of a route: its body may be a form, which only this service's own pages may send."""

READ_PROBLEMS = (400, 404, 500)
MODEL_PROBLEMS = (400, 404, 409, 413, 415, 500, 503)
"""Statuses of the problems of a route that runs models."""

Handler = Callable[..., Any]
Responses = Mapping[int, ResponseSpec]


def read(
    path: str,
    operation_id: str,
    summary: str,
    *,
    problems: tuple[int, ...] = READ_PROBLEMS,
    changes: bool = False,
) -> Callable[[Handler], HTTPRouteHandler]:
    """Serve GET with a function; one that is no coroutine runs in a thread, because it reads files.

    Args:
        path: of the route, below its router.
        operation_id: name in the OpenAPI document.
        summary: a few words; the function's docstring is the description.
        problems: statuses of the problems that it documents beside those of every route.
        changes: whether the result can change while the run stays the same; caches then ask again each time.
    """

    def decorate(function: Handler) -> HTTPRouteHandler:
        return get(
            path,
            operation_id=operation_id,
            summary=summary,
            responses=documented(*problems),
            cache_control=NO_CACHE if changes else None,
            sync_to_thread=None if iscoroutinefunction(function) else True,
        )(function)

    return decorate


def run_models(
    path: str,
    operation_id: str,
    summary: str,
    *,
    problems: tuple[int, ...] = MODEL_PROBLEMS,
    responses: Responses | None = None,
) -> Callable[[Handler], HTTPRouteHandler]:
    """Serve POST with a coroutine that runs models.

    Args:
        path: below the router of the route.
        operation_id: its name in OpenAPI.
        summary: its title in OpenAPI.
        problems: statuses of its own problems.
        responses: what it documents by status, where the return type does not say it.
    """
    return post(
        path,
        operation_id=operation_id,
        summary=summary,
        status_code=200,
        responses={**documented(*problems), **(responses or {})},
        cache_control=NO_STORE,
        opt={RUNS_MODELS: True},
    )
