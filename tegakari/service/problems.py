"""Every failure as one shape: RFC 9457 problem details."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi import ResponseSpec
from litestar.types import ExceptionHandlersMap

from tegakari.schemas.errors import TegakariError
from tegakari.schemas.problem import Problem

log = structlog.get_logger()

PROBLEM_JSON = "application/problem+json"
IN_THE_LOG = "the server's log says what happened"


class Kind(NamedTuple):
    """How one kind of error answers."""

    status: int
    title: str


KINDS = {
    "bad-parameter": Kind(400, "A parameter is wrong"),
    "bad-cursor": Kind(400, "The cursor is not of this list"),
    "bad-sql": Kind(400, "The query cannot be answered"),
    "bad-request": Kind(400, "The request is wrong"),
    "no-key": Kind(401, "A good API key is needed"),
    "key-lacks-scope": Kind(403, "The API key is not good for this"),
    "not-found": Kind(404, "Not found"),
    "method-not-allowed": Kind(405, "The method is not allowed here"),
    "too-slow": Kind(408, "The request came too slowly"),
    "run-exists": Kind(409, "The run exists"),
    "too-large": Kind(413, "The request is too large"),
    "too-many-requests": Kind(429, "Too many requests"),
    "model-not-here": Kind(409, "The run's model is not on this machine"),
    "job-cancelled": Kind(409, "The knockout was cancelled"),
    "internal-error": Kind(500, "The server failed"),
    "error": Kind(500, "The server failed"),
    "bad-configuration": Kind(500, "The server's configuration is wrong"),
    "bad-corpus": Kind(500, "A corpus cannot be used"),
    "bad-model": Kind(500, "A model cannot be used"),
    "bad-sae": Kind(500, "A sparse autoencoder cannot be used"),
    "bad-encode-input": Kind(500, "Sparse encode refused its input"),
    "bad-store": Kind(500, "The store cannot be read"),
    "not-ready": Kind(503, "The server is not ready"),
    "overloaded": Kind(503, "The server has enough to do"),
    "busy": Kind(503, "The server is busy"),
    "deadline-passed": Kind(503, "The answer did not come in time"),
    "memory-short": Kind(503, "The server's memory does not suffice"),
    "disk-full": Kind(507, "The server's disk is full"),
}
"""By slug: the one table of statuses. A page of the documentation stands behind each."""


def problem_type(slug: str) -> str:
    """The `type` of a slug."""
    return f"/docs/errors/{slug}.md"


def _problem(
    slug: str, detail: str, *, field: str | None = None, fix: str | None = None, status: int | None = None
) -> Problem:
    kind = KINDS[slug]
    return Problem(
        type=problem_type(slug),
        title=kind.title,
        status=status or kind.status,
        detail=detail,
        field=field,
        fix=fix,
    )


def problem_of(error: Exception) -> Problem:
    """What is said of an error. Of those that are for whoever runs the server, nothing but their kind."""
    if not isinstance(error, TegakariError):
        return _problem("internal-error", IN_THE_LOG)
    if _is_ours(error):
        return _problem(error.slug, IN_THE_LOG)
    return _problem(error.slug, error.message, field=error.field, fix=error.fix)


def _is_ours(error: TegakariError) -> bool:
    """Whether its message is for whoever runs the server: it names files."""
    return KINDS[error.slug].status in (500, 507)


def _response(problem: Problem, headers: dict[str, str] | None = None) -> Response[Problem]:
    return Response(
        problem,
        status_code=problem.status,
        media_type=PROBLEM_JSON,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def _answer(
    slug: str,
    detail: str,
    *,
    field: str | None = None,
    fix: str | None = None,
    status: int | None = None,
    headers: dict[str, str] | None = None,
) -> Response[Problem]:
    return _response(_problem(slug, detail, field=field, fix=fix, status=status), headers)


def refusal(error: TegakariError) -> Response[Problem]:
    """The answer to a request that is refused; an error that passes says so with `retry_after`, in seconds."""
    headers = {}
    if error.slug == "no-key":
        headers["WWW-Authenticate"] = "Bearer"
    if error.slug in ("too-large", "too-slow"):
        headers["Connection"] = "close"  # what is still to come of the request is not waited for
    seconds = getattr(error, "retry_after", None)
    if seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    return _response(problem_of(error), headers)


def _of_ours(request: Request[Any, Any, Any], error: TegakariError) -> Response[Problem]:
    if _is_ours(error):
        log.error("failed", path=request.scope["path"], error=str(error), slug=error.slug)
    return refusal(error)


def _of_deep_nesting(request: Request[Any, Any, Any], error: RecursionError) -> Response[Problem]:
    return _answer("bad-request", "the body is nested too deeply", fix="see /schema")


def _of_wrong_characters(request: Request[Any, Any, Any], error: UnicodeDecodeError) -> Response[Problem]:
    if request.method == "GET":  # no body: it is not the request's fault
        return _of_anything(request, error)
    return _answer("bad-request", f"the body is not UTF-8: {error.reason}", fix="send UTF-8")


def _of_validation(request: Request[Any, Any, Any], error: ValidationException) -> Response[Problem]:
    # The framework lists [{"key": ..., "message": ..., "source": "path" | "query"}], without the value.
    first: Any = error.extra[0] if isinstance(error.extra, list) and error.extra else {}
    if missing := re.match(r"Missing required query parameter '(\w+)'", error.detail):
        return _answer("bad-parameter", "it is missing", field=missing[1], fix="give it; see /schema")
    field = first.get("key")
    sent = {**request.path_params, **request.query_params}.get(field)
    reason = str(first.get("message", error.detail)).removesuffix(", got `str`")
    return _answer("bad-parameter", f"{sent!r} is not allowed: {reason}", field=field, fix="see /schema")


def _of_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    headers = error.headers or {}
    path = request.scope["path"]
    match error.status_code:
        case 404:
            return _answer("not-found", f"there is nothing at {path}", fix="see /schema")
        case 405:
            detail = f"{request.method} is not allowed at {path}"
            return _answer("method-not-allowed", detail, fix=f"allowed: {headers.get('allow')}", headers=headers)
        case 413:
            return _answer("too-large", error.detail, fix="ask for less at once", headers=headers)
        case status if status < 500:
            return _answer("bad-request", error.detail, status=status, headers=headers)
        case _:
            return _of_anything(request, error)


def _of_anything(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    log.error("unhandled", path=request.scope["path"], exc_info=error)
    return _response(problem_of(error))


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    TegakariError: _of_ours,
    ValidationException: _of_validation,
    HTTPException: _of_http,
    RecursionError: _of_deep_nesting,
    UnicodeDecodeError: _of_wrong_characters,
    Exception: _of_anything,
}


ANYWHERE = (401, 403, 429, 503)
"""Statuses that any route below /v1 can answer, whatever it does."""


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """Describe the problems of a route below /v1 in its OpenAPI operation, those of ANYWHERE included."""
    return described(*sorted({*statuses, *ANYWHERE}))


def described(*statuses: int) -> dict[int, ResponseSpec]:
    """Describe exactly these problems."""
    return {
        status: ResponseSpec(
            Problem, media_type=PROBLEM_JSON, description=_DESCRIPTIONS[status], generate_examples=False
        )
        for status in statuses
    }


_DESCRIPTIONS = {
    400: "A parameter is unknown, or its value is not allowed.",
    401: "The server asks for an API key, and the request has none that is good.",
    403: "The API key is good, but not for this.",
    404: "There is no such run, label, layer or feature.",
    409: "The run's model is not on this machine, or the work was cancelled.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    429: "More requests than the key, or else the address, may make; Retry-After says when to come again.",
    500: "The store could not be read.",
    503: "The server is not ready, is busy, or could not answer in time.",
    507: "The server's disk is full.",
}
