"""Decorators of route handlers: what all reading routes share, all that write, and all that run models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import iscoroutinefunction
from typing import Any, Literal

from litestar import delete, get, patch, post
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
WRITE_PROBLEMS = (400, 404, 413, 415, 500, 507)
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


def write(
    method: Literal["POST", "PATCH", "DELETE"], path: str, operation_id: str, summary: str
) -> Callable[[Handler], HTTPRouteHandler]:
    """Serve a change of what people write beside a run, with a function that runs in a thread and returns the result.

    Args:
        method: of HTTP.
        path: below the router of the route.
        operation_id: its name in OpenAPI.
        summary: its title in OpenAPI.
    """
    return _WRITING[method](
        path,
        operation_id=operation_id,
        summary=summary,
        status_code=200,
        responses=documented(*WRITE_PROBLEMS),
        cache_control=NO_STORE,
        sync_to_thread=True,
    )


_WRITING: Mapping[str, type[post] | type[patch] | type[delete]] = {"POST": post, "PATCH": patch, "DELETE": delete}


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
