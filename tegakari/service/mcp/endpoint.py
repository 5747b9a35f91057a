"""POST /mcp of the service: MCP over Streamable HTTP, without sessions, so that any worker serves any message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
from litestar import Litestar, Request, Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from tegakari.service.admission.gate import PART_OF_REQUEST
from tegakari.service.http.headers import header
from tegakari.service.mcp.server import Context, tool_server

PATH = "/mcp"

_KEY_HEADERS = ("authorization", "x-api-key")


class McpEndpoint:
    """The handler of /mcp, and what it needs while the application runs."""

    def __init__(self, max_body_bytes: int) -> None:
        """Build the server; nothing runs yet.

        Args:
            max_body_bytes: largest message.
        """
        # Host, Origin and body are the gate's: the SDK's own checks of them are left off.
        self._manager = StreamableHTTPSessionManager(
            tool_server(_api_of), stateless=True, max_request_body_size=max_body_bytes
        )

    @asynccontextmanager
    async def run(self, _: Litestar) -> AsyncIterator[None]:
        """Serve messages during the block."""
        async with self._manager.run():
            yield

    def handler(self) -> HTTPRouteHandler:
        """The route. Any key may list tools; what a tool's own request needs is checked with that request."""

        async def exchange_messages() -> Exchange:
            return Exchange(self._manager.handle_request)

        return post(PATH, status_code=200, include_in_schema=False, opt={"scope": "read"})(exchange_messages)


class Exchange(Response[Any]):
    """A response that an ASGI application writes, which also reads the request."""

    def to_asgi_response(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, app: object, request: Request[Any, Any, Any], **_: Any
    ) -> ASGIApp:
        return self.content


@asynccontextmanager
async def _api_of(context: Context) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application itself, with the address and the key of the message's sender."""
    assert context.request is not None
    scope: Scope = context.request.scope
    headers = {"accept-encoding": "identity"}
    headers |= {name: value for name in _KEY_HEADERS if (value := header(scope, name.encode()))}
    app: Any = partial(_part_of_request, scope["litestar_app"])
    transport = httpx.ASGITransport(app, client=scope.get("client") or ("", 0))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1", headers=headers, timeout=None
    ) as client:
        yield client


async def _part_of_request(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app({**scope, "state": {PART_OF_REQUEST: True}}, receive, send)  # pyright: ignore
