"""A published run never changes, so its answers carry a strong ETag and a repeated question costs a 304."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from tegakari.schemas.config import NAME_PATTERN
from tegakari.schemas.errors import NotFoundError
from tegakari.service.http.headers import header
from tegakari.service.http.paths import decode_parameters
from tegakari.store import Run, Store
from tegakari.version import __version__

CACHE_CONTROL = "private, max-age=60, must-revalidate"
"""A run's name can be given to another run once it is deleted: after a minute the ETag must be shown again."""


class RunOfRequest(ASGIMiddleware):
    """Opens the run that the path names, and answers 304 where the client has the answer already.

    A route whose answer can change while the run is the same says so with a `cache_control` of its own: it gets no tag.
    """

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        decode_parameters(scope)
        run = open_run(scope["litestar_app"].state.store, scope["path_params"]["run"])
        scope["state"]["run"] = run
        if scope.get("method") != "GET":
            await next_app(scope, receive, send)
            return
        tag = _entity_tag(run, scope)
        described = [
            (b"etag", tag.encode()),
            (b"cache-control", CACHE_CONTROL.encode()),
            (b"vary", b"Accept, Accept-Encoding"),
        ]

        async def send_with_tag(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                headers = list(message.get("headers", []))
                if not any(name == b"cache-control" for name, _ in headers):
                    message["headers"] = headers + described
            await send(message)

        if tag in _known_tags(scope):
            await send({"type": "http.response.start", "status": 304, "headers": described})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await next_app(scope, receive, send_with_tag)


def open_run(store: Store, name: str, *, field: str = "run") -> Run:
    """A published run.

    Raises:
        NotFoundError: there is none of that name, which `field` gave.
    """
    if re.fullmatch(NAME_PATTERN, name):
        with suppress(NotFoundError):  # the store's own words name its directory, which is nobody's business here
            return store.run(name)
    raise NotFoundError(f"no run {name!r}", field=field, fix="GET /v1/runs lists the published runs")


def run_of_request(scope: Scope) -> Run:
    """The run that `RunOfRequest` opened."""
    return scope["state"]["run"]


def _entity_tag(run: Run, scope: Scope) -> str:
    """The tables decide the answer, given the question, the form it is wanted in and the program that answers."""
    asked = scope["path"], scope["query_string"], header(scope, b"accept"), header(scope, b"accept-encoding")
    made = run.manifest.fingerprint, run.manifest.created, __version__
    return f'"{hashlib.sha256(repr((made, asked)).encode()).hexdigest()[:32]}"'


def _known_tags(scope: Scope) -> list[str]:
    known = header(scope, b"if-none-match")
    return re.findall(r'"[^"]*"', known) if known else []
