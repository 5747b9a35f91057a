"""ETags of the routes below a run: the middleware opens the run, and answers 304 where the client has the response.

A published run never changes, so its responses carry a strong ETag.
"""

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
from tegakari.store.suggestion import suggestion
from tegakari.version import __version__

CACHE_CONTROL = "private, max-age=60, must-revalidate"
"""The name of a deleted run can be given to a new one: after a minute the client must send the ETag again."""

NAMED_RUNS = 20
"""Published runs that the error of a missing one names."""


class RunOfRequest(ASGIMiddleware):
    """Replaces the name of the run in the path parameters by the open run; sends ETags and 304.

    A route with `cache_control` of its own returns what can change while the run stays the same: it gets no ETag.
    """

    scopes = (ScopeType.HTTP,)

    cache_control = CACHE_CONTROL
    vary = b"Accept, Accept-Encoding"

    headers: tuple[tuple[bytes, bytes], ...] = ()
    """of responses without a body: a browser replaces those of the response that it has by them"""

    def state_of(self, scope: Scope, run: Run) -> object:
        """What the responses depend on besides the run and the request; none for data."""
        return None

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        decode_parameters(scope)
        run = open_run(scope["litestar_app"].state.store, scope["path_params"]["run"])
        scope["path_params"]["run"] = run  # pyright: ignore[reportArgumentType] - Litestar types them all as str
        if scope.get("method") != "GET":
            await next_app(scope, receive, send)
            return
        tag = _entity_tag(run, scope, self.state_of(scope, run))
        cache_headers = [
            (b"etag", tag.encode()),
            (b"cache-control", self.cache_control.encode()),
            (b"vary", self.vary),
        ]

        async def send_with_tag(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                headers = list(message.get("headers", []))
                if not any(name == b"cache-control" for name, _ in headers):
                    message["headers"] = headers + cache_headers
            await send(message)

        if tag in _client_tags(scope):
            await send({"type": "http.response.start", "status": 304, "headers": [*cache_headers, *self.headers]})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await next_app(scope, receive, send_with_tag)


def open_run(store: Store, name: str, *, field: str = "run") -> Run:
    """A published run.

    Args:
        store: of the service.
        name: of the run.
        field: parameter that the error names.

    Raises:
        NotFoundError: no published run has the name.
    """
    if re.fullmatch(NAME_PATTERN, name):
        with suppress(NotFoundError):  # the store's message names its directory, which clients must not learn
            return store.run(name)
    raise no_run(store, name, field=field)


def no_run(store: Store, name: str, *, field: str) -> NotFoundError:
    """The error of a run that is not published; it names some that are."""
    published = store.names()
    more = f" and {len(published) - NAMED_RUNS} more" if len(published) > NAMED_RUNS else ""
    fix = f"{suggestion(name, published)}published runs: {', '.join(published[:NAMED_RUNS]) or 'none'}{more}"
    return NotFoundError(f"no run {name!r}", field=field, fix=fix)


def _entity_tag(run: Run, scope: Scope, state: object) -> str:
    """ETag of a response: hash of the run, of this program's version, and of the request with its accepted formats."""
    request = scope["path"], scope["query_string"], header(scope, b"accept"), header(scope, b"accept-encoding")
    source = run.manifest.fingerprint, run.manifest.created, __version__, state
    return f'"{hashlib.sha256(repr((source, request)).encode()).hexdigest()[:32]}"'


def _client_tags(scope: Scope) -> list[str]:
    value = header(scope, b"if-none-match")
    return re.findall(r'"[^"]*"', value) if value else []
