"""Every failure as a problem document (RFC 9457)."""

from __future__ import annotations

import math
import re
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi import ResponseSpec
from litestar.types import Empty, ExceptionHandlersMap
from litestar.utils.scope.state import ScopeState

from tegakari.schemas.errors import (
    BodyError,
    InternalError,
    MethodNotAllowedError,
    NoKeyError,
    NotFoundError,
    QueryError,
    TegakariError,
    TooLargeError,
    TooSlowError,
)
from tegakari.schemas.problem import Problem
from tegakari.service.http.body_errors import body_error
from tegakari.service.http.parameters import BODY, body_type, bounds, choices, query_name

log = structlog.get_logger()

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
IN_THE_LOG = "the server's log says what happened"


def _problem(error: TegakariError | type[TegakariError], detail: str, *, status: int | None = None) -> Problem:
    """The problem of an error, or of a kind of error without field and fix."""
    instance = error if isinstance(error, TegakariError) else None
    return Problem(
        type=error.docs_page(),
        title=error.title,
        status=status or error.status,
        detail=detail,
        field=instance.field if instance else None,
        fix=instance.fix if instance else None,
    )


def problem_of(error: Exception) -> Problem:
    """The problem document of an error. Of errors for the operator of the server it shows the kind only."""
    if not isinstance(error, TegakariError):
        return _problem(InternalError, IN_THE_LOG)
    if _is_for_operator(error):
        return _problem(type(error), IN_THE_LOG)
    return _problem(error, error.message)


def _is_for_operator(error: TegakariError) -> bool:
    """Whether the message names files of the server: clients see the kind of error only."""
    return error.status in (500, 507)


def _response(problem: Problem, headers: dict[str, str] | None = None) -> Response[Problem]:
    return Response(
        problem,
        status_code=problem.status,
        media_type=PROBLEM_JSON,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def error_response(error: TegakariError, headers: dict[str, str] | None = None) -> Response[Problem]:
    """The response to a request that fails with an error; Retry-After carries the error's `retry_after`, rounded up."""
    headers = dict(headers or {})
    if isinstance(error, NoKeyError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, (TooLargeError, TooSlowError)):
        headers["Connection"] = "close"  # the rest of the request is not read
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return _response(problem_of(error), headers)


def _handle_tegakari_error(request: Request[Any, Any, Any], error: TegakariError) -> Response[Problem]:
    if _is_for_operator(error):
        log.error("failed", path=request.scope["path"], error=str(error), slug=error.slug)
    return error_response(error)


def _handle_deep_nesting(request: Request[Any, Any, Any], error: RecursionError) -> Response[Problem]:
    if request.method == "GET":  # without a body it is a fault of the program
        return _handle_any(request, error)
    return error_response(BodyError("the body is nested too deeply", fix="see /schema"))


def _handle_wrong_characters(request: Request[Any, Any, Any], error: UnicodeDecodeError) -> Response[Problem]:
    if request.method == "GET":
        return _handle_any(request, error)
    return error_response(BodyError(f"the body is not UTF-8: {error.reason}", fix="send JSON in UTF-8"))


def _handle_validation(request: Request[Any, Any, Any], error: ValidationException) -> Response[Problem]:
    # Litestar lists [{"key": ..., "message": ..., "source": "path" | "query"}], without the value.
    first: Any = error.extra[0] if isinstance(error.extra, list) and error.extra else {}
    if first.get("source") == "body":
        return error_response(_body_error(request, first))
    if missing := re.match(r"Missing required query parameter '(\w+)'", error.detail):
        return error_response(
            QueryError(
                "the parameter is missing", field=missing[1], fix=f"add `{missing[1]}` to the query; see /schema"
            )
        )
    key = first.get("key", "")
    field = query_name(request.route_handler, key)
    value = {**request.path_params, **request.query_params}.get(field)
    reason = str(first.get("message", error.detail)).removesuffix(", got `str`")
    allowed = choices(request.route_handler, key)
    fix = f"use one of: {', '.join(allowed)}" if allowed else bounds(request.route_handler, key) or "see /schema"
    return error_response(QueryError(f"{value!r} is not allowed: {reason}", field=field or None, fix=fix))


def _body_error(request: Request[Any, Any, Any], first: dict[str, str]) -> BodyError:
    body, type_ = ScopeState.from_scope(request.scope).json, body_type(request.route_handler)
    assert type_ is not None
    if body is Empty or body is None:
        return BodyError("the body is empty or null", fix="send a JSON object; see /schema")
    path = first["key"]
    return body_error(body, type_, "" if path == BODY else path, first["message"])


def _handle_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    headers = error.headers or {}
    path = request.scope["path"]
    match error.status_code:
        case 404:
            return error_response(NotFoundError(f"no route matches {path}", fix="GET /v1 lists the routes"))
        case 405:
            detail = f"{request.method} is not allowed at {path}"
            return error_response(MethodNotAllowedError(detail, fix=f"allowed: {headers.get('allow')}"), headers)
        case 413:
            return error_response(TooLargeError(error.detail, fix="split the request into smaller ones"), headers)
        case 400:
            fix = f"send JSON with the header Content-Type: {JSON}"
            return error_response(BodyError(f"the body is not JSON: {error.detail}", fix=fix), headers)
        case status if status < 500:
            return _response(_problem(BodyError, error.detail, status=status), headers)
        case _:
            return _handle_any(request, error)


def _handle_any(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    log.error("unhandled", path=request.scope["path"], exc_info=error)
    return _response(problem_of(error))


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    TegakariError: _handle_tegakari_error,
    ValidationException: _handle_validation,
    HTTPException: _handle_http,
    RecursionError: _handle_deep_nesting,
    UnicodeDecodeError: _handle_wrong_characters,
    Exception: _handle_any,
}


COMMON_PROBLEMS = (401, 403, 429, 503)
"""Statuses of problems of every route below /v1."""


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """OpenAPI responses for the problems of a route below /v1, COMMON_PROBLEMS included."""
    return described(*sorted({*statuses, *COMMON_PROBLEMS}))


def described(*statuses: int) -> dict[int, ResponseSpec]:
    """OpenAPI responses for the problems of these statuses."""
    return {
        status: ResponseSpec(
            Problem, media_type=PROBLEM_JSON, description=_DESCRIPTIONS[status], generate_examples=False
        )
        for status in statuses
    }


_DESCRIPTIONS = {
    400: "A parameter is unknown, its value is not allowed, or `Host` is not a name of the server.",
    401: "The server requires an API key; the request carries none, or one that is unknown, revoked or expired.",
    403: "The API key's scope does not include the request, or a page of another origin sent it.",
    404: "The run, label, layer, feature or document does not exist.",
    409: "The run's model is not on this machine, or the work was cancelled.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not declared as `application/json`.",
    429: "The key or the address exceeds its requests per second; Retry-After gives the seconds to wait.",
    500: "The store could not be read.",
    503: "The server is not ready or busy, or the result was not ready in time.",
    507: "The server's disk is full.",
}
