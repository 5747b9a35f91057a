"""Rendering of pages: templates, what all of them are given, and failures as pages."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import MediaType, Request, Response, get
from litestar.datastructures import CacheControlHeader
from litestar.exceptions import HTTPException, NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.types import ExceptionHandlersMap

from tegakari.schemas.errors import NoKeyError, NotFoundError, TegakariError
from tegakari.schemas.problem import Problem
from tegakari.service.explorer import charts
from tegakari.service.explorer.addresses import ADDRESSES
from tegakari.service.explorer.language import LANGUAGES, language_of, script_texts, translator
from tegakari.service.http.headers import header, preferences
from tegakari.service.http.operations import REFUSAL
from tegakari.service.http.problems import EXCEPTION_HANDLERS, error_response, problem_of
from tegakari.version import __version__

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
"""Content-Security-Policy of the explorer: nothing inline, nothing from other servers."""

SHADES = 10
"""Steps of the shading of tokens; styles name them, because the policy forbids inline styles."""

Handler = Callable[..., Any]


def page(path: str, *, changes: bool = False) -> Callable[[Handler], HTTPRouteHandler]:
    """Serve a page with a function that runs in a thread, because it reads files.

    Args:
        path: of the page, below its router.
        changes: whether the page can change while its run stays the same; browsers then ask again each time.
    """
    return get(
        path,
        include_in_schema=False,
        media_type=MediaType.HTML,
        cache_control=CacheControlHeader(no_cache=True) if changes else None,
        sync_to_thread=True,
        opt={REFUSAL: refusal},
    )


def render(request: Request[Any, Any, Any], template: str, /, *, status: int = 200, **content: Any) -> Response[str]:
    """A page.

    Args:
        request: that is answered; its language is that of the page.
        template: file name without `.html`.
        status: of the response.
        content: names that the template uses.
    """
    language = language_of(request.scope)
    html = (
        _environment()
        .get_template(f"{template}.html")
        .render(
            t=translator(language),
            script_texts=script_texts(language),
            language=language,
            languages=LANGUAGES,
            path=request.scope.get("raw_path", b"/").partition(b"?")[0].decode("ascii", "replace"),
            query=dict(request.query_params),
            version=__version__,
            signed_in=request.scope["state"].get("key") is not None,
            **content,
        )
    )
    headers = {"Content-Security-Policy": POLICY}
    return Response(html, status_code=status, media_type=MediaType.HTML, headers=headers)


def problem_page(request: Request[Any, Any, Any], problem: Problem) -> Response[str]:
    """A failure as a page, with the text of the API's problem document."""
    response = render(request, "problem", status=problem.status, problem=problem)
    response.headers["Cache-Control"] = "no-store"
    return response


def refusal(request: Request[Any, Any, Any], error: TegakariError) -> Response[Any]:
    """What the gate answers instead of a page: a form for an API key, or a failure as a page."""
    response = error_response(error)
    if isinstance(error, NoKeyError):
        return sign_in_form(request, request.scope.get("raw_path", b"/").decode("ascii", "replace"))
    answer = problem_page(request, response.content)
    answer.headers.update(response.headers)
    return answer


def sign_in_form(
    request: Request[Any, Any, Any], next_page: str, refused: NoKeyError | None = None, *, status: int = 401
) -> Response[str]:
    """A form for an API key.

    Args:
        request: that is answered.
        next_page: address that is shown once the key is accepted.
        refused: why the key before was not accepted.
        status: of the response.
    """
    response = render(request, "sign_in", status=status, next_page=next_page, refused=refused)
    response.headers["Cache-Control"] = "no-store"
    return response


def _as_page(handler: Any) -> Any:
    def handle(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
        return problem_page(request, handler(request, error).content)

    return handle


PAGE_EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    kind: _as_page(handler) for kind, handler in EXCEPTION_HANDLERS.items()
}
"""Failures in the handlers of pages."""


def _unknown_address(request: Request[Any, Any, Any], error: NotFoundException) -> Response[Any]:
    """An address without a route: a page for a browser, a problem document for others and below /v1."""
    response = EXCEPTION_HANDLERS[HTTPException](request, error)
    path = request.scope["path"]
    if path.startswith("/v1") or preferences(header(request.scope, b"accept"))[:1] != ["text/html"]:
        return response
    unknown = NotFoundError(f"no page has the address {path}", fix="find it from the list of runs, or by a search")
    return problem_page(request, problem_of(unknown))


APP_EXCEPTION_HANDLERS: ExceptionHandlersMap = {**EXCEPTION_HANDLERS, NotFoundException: _unknown_address}
"""Failures outside the handlers of pages."""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(ADDRESSES, charts=charts)
    environment.filters.update(python=repr, shell=shlex.quote, sql=sql_text, json=settings_json)
    environment.filters.update(
        figure=figure, percent=percent, count=count, shade=shade, token=visible_token, broken=broken_token
    )
    return environment


def sql_text(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def settings_json(settings: msgspec.Struct) -> str:
    """Settings as the API reads them, without those that have their default."""
    fields = {field.name: getattr(settings, field.name) for field in msgspec.structs.fields(settings)}
    defaults = {field.name: field.default for field in msgspec.structs.fields(settings)}
    return msgspec.json.encode({name: value for name, value in fields.items() if value != defaults[name]}).decode()


def figure(value: float | None, digits: int = 3) -> str:
    """A number with a fixed number of decimals; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}".replace("-", "−")


def percent(value: float | None, digits: int = 1) -> str:
    """A share in percent."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def count(value: int | None) -> str:
    """A number of things with separators of thousands."""
    return "–" if value is None else f"{value:,}"


def shade(activation: float, largest: float) -> str:
    """Class of the shading of a token."""
    share = min(max(activation / largest, 0), 1) if largest > 0 else 0
    return f"shade-{round(share * SHADES)}"


def broken_token(text: str) -> str:
    """A token in its line: line breaks stay, with a sign before each."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "⏎\n")


def visible_token(text: str) -> str:
    """A token as it is shown: line breaks, tabs and a single space by signs."""
    shown = text.replace("\r\n", "⏎").replace("\n", "⏎").replace("\r", "⏎").replace("\t", "⇥")
    return "␠" if shown and not shown.strip(" ") else shown
