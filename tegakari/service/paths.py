"""Paths are matched as they were sent, so that a label with a slash (`%2F`) is one segment; then they are decoded."""

from __future__ import annotations

from urllib.parse import quote, unquote

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send


class Api(Litestar):
    """Litestar, but it routes by the encoded path, and answers HEAD where it answers GET."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # pyright: ignore
        if scope["type"] == ScopeType.HTTP:
            # The server keeps its own scope, knows that the method is HEAD, and leaves the body out.
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            scope = {**scope, "path": _encoded_path(scope), "method": method}  # pyright: ignore
        await super().__call__(scope, receive, send)  # pyright: ignore


def _encoded_path(scope: Scope) -> str:
    """The request's path with each segment in one spelling: reserved characters encoded, others not."""
    raw = scope.get("raw_path") or quote(scope["path"]).encode()
    path, _, _ = raw.partition(b"?")  # some clients that call the application in-process leave the query on
    return "/".join(quote(unquote(segment), safe="") for segment in path.decode("ascii", "replace").split("/"))


class DecodedParameters(ASGIMiddleware):
    """Decodes the path parameters once a route is found."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        # A new mapping: the router shares the one it gives between requests.
        scope["path_params"] = {
            name: unquote(value) if isinstance(value, str) else value for name, value in scope["path_params"].items()
        }
        await next_app(scope, receive, send)
