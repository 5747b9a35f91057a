"""Bodies that are no JSON at all, where the framework gives up with an exception of its decoder."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response
from litestar.types import ExceptionHandlersMap

from tegakari.schemas.errors import TegakariError
from tegakari.schemas.problem import Problem
from tegakari.service.problems import refusal


class BodyError(TegakariError):
    """The body is not UTF-8, or nested too deeply."""

    slug = "bad-request"


def _not_utf8(_request: Request[Any, Any, Any], _error: UnicodeDecodeError) -> Response[Problem]:
    return refusal(BodyError("the body is not UTF-8", fix="send JSON in UTF-8"))


def _too_deep(_request: Request[Any, Any, Any], _error: RecursionError) -> Response[Problem]:
    return refusal(BodyError("the body is nested too deeply", fix="see /schema"))


BODY_EXCEPTION_HANDLERS: ExceptionHandlersMap = {UnicodeDecodeError: _not_utf8, RecursionError: _too_deep}
"""For the routes that take a body."""
