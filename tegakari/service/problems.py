"""Every failure as one shape: RFC 9457 problem details."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi import ResponseSpec
from litestar.types import ExceptionHandlersMap

from tegakari.schemas.errors import TegakariError

log = structlog.get_logger()

PROBLEM_JSON = "application/problem+json"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong, by RFC 9457."""

    type: str
    """a relative URI: the page of this kind of error in the project's documentation."""
    title: str
    """the kind in words, always the same for one type."""
    status: int
    detail: str
    """this occurrence, with the offending value."""
    field: str | None = None
    """the parameter or part of the path at fault."""
    fix: str | None = None
    """what to do about it."""


class Kind(NamedTuple):
    """How one kind of error answers."""

    status: int
    title: str


KINDS = {
    "bad-parameter": Kind(400, "A parameter is wrong"),
    "bad-cursor": Kind(400, "The cursor is not of this list"),
    "bad-request": Kind(400, "The request is wrong"),
    "not-found": Kind(404, "Not found"),
    "method-not-allowed": Kind(405, "The method is not allowed here"),
    "run-exists": Kind(409, "The run exists"),
    "internal-error": Kind(500, "The server failed"),
    "error": Kind(500, "The server failed"),
    "bad-configuration": Kind(500, "The server's configuration is wrong"),
    "bad-corpus": Kind(500, "A corpus cannot be used"),
    "bad-model": Kind(500, "A model cannot be used"),
    "bad-sae": Kind(500, "A sparse autoencoder cannot be used"),
    "bad-encode-input": Kind(500, "Sparse encode refused its input"),
    "bad-store": Kind(500, "The store cannot be read"),
    "not-ready": Kind(503, "The server is not ready"),
    "disk-full": Kind(507, "The server's disk is full"),
}
"""By slug: the one table of statuses. A page of the documentation stands behind each."""


def problem_type(slug: str) -> str:
    """The `type` of a slug."""
    return f"/docs/errors/{slug}.md"


def _answer(
    slug: str,
    detail: str,
    *,
    field: str | None = None,
    fix: str | None = None,
    status: int | None = None,
    headers: dict[str, str] | None = None,
) -> Response[Problem]:
    kind = KINDS[slug]
    problem = Problem(
        type=problem_type(slug),
        title=kind.title,
        status=status or kind.status,
        detail=detail,
        field=field,
        fix=fix,
    )
    return Response(
        problem,
        status_code=problem.status,
        media_type=PROBLEM_JSON,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def _of_ours(request: Request[Any, Any, Any], error: TegakariError) -> Response[Problem]:
    if KINDS[error.slug].status in (500, 507):
        # Such messages are for whoever runs the server: they name its files.
        log.error("failed", path=request.scope["path"], error=str(error), slug=error.slug)
        return _answer(error.slug, "the server's log says what happened")
    return _answer(error.slug, error.message, field=error.field, fix=error.fix)


def _of_validation(request: Request[Any, Any, Any], error: ValidationException) -> Response[Problem]:
    # The framework lists [{"key": ..., "message": ..., "source": "path" | "query"}], without the value.
    first: Any = error.extra[0] if isinstance(error.extra, list) and error.extra else {}
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
        case status if status < 500:
            return _answer("bad-request", error.detail, status=status, headers=headers)
        case _:
            return _of_anything(request, error)


def _of_anything(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    log.error("unhandled", path=request.scope["path"], exc_info=error)
    return _answer("internal-error", "the server's log says what happened")


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    TegakariError: _of_ours,
    ValidationException: _of_validation,
    HTTPException: _of_http,
    Exception: _of_anything,
}


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """Describe the problems of a route in its OpenAPI operation."""
    return {
        status: ResponseSpec(
            Problem, media_type=PROBLEM_JSON, description=_DESCRIPTIONS[status], generate_examples=False
        )
        for status in statuses
    }


_DESCRIPTIONS = {
    400: "A parameter is unknown, or its value is not allowed.",
    404: "There is no such run, label, layer or feature.",
    500: "The store could not be read.",
    503: "The store directory cannot be read.",
}
