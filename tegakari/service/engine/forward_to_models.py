"""Forwards requests that run models from several workers to the one model process, over a Unix socket.

The model process runs the same application, so that models, queue and jobs exist once for all workers. Routes with the
option RUNS_MODELS are forwarded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from tegakari.schemas.errors import BusyError
from tegakari.service.http.disconnect import wait_for_disconnect
from tegakari.service.http.headers import header
from tegakari.service.http.operations import RUNS_MODELS

SOCKET = "models.sock"
"""Name of the socket in the directory that the workers share."""

_CONNECTION_HEADERS = (b"host", b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te", b"expect")
"""They describe one connection and are not forwarded."""

_GATE_HEADERS = (b"accept-encoding", b"authorization", b"x-api-key")
"""The gate of the worker has handled them."""

CLIENT = b"x-tegakari-client"
"""Header with which a worker tells the model process whose request it forwards."""


def models_client(shared: Path) -> httpx.AsyncClient:
    """A client of the model process; it connects with the first request.

    Args:
        shared: directory with the process's socket.
    """
    transport = httpx.AsyncHTTPTransport(uds=str(shared / SOCKET))
    return httpx.AsyncClient(transport=transport, timeout=None, trust_env=False)


def client_of(scope: Scope) -> str:
    """Whose request it is: a key, or without keys an address. The gate admitted it, here or in a worker."""
    return scope["state"].get("client") or header(scope, CLIENT)


class ForwardToModelProcess(ASGIMiddleware):
    """Forwards requests that run models to the model process, and streams its responses back."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if RUNS_MODELS not in scope["route_handler"].opt:
            await next_app(scope, receive, send)
            return
        client: httpx.AsyncClient = scope["litestar_app"].state.models_client
        body_read = asyncio.Event()
        request = client.build_request(
            scope.get("method", "POST"),
            _url(scope),
            headers=[*_forwarded_headers(scope["headers"]), (CLIENT, client_of(scope).encode())],
            content=_body(receive, body_read),
        )
        response = asyncio.create_task(_forward(client, request, send))
        disconnect = asyncio.create_task(_wait_for_disconnect(receive, body_read))
        try:
            await asyncio.wait({response, disconnect}, return_when=asyncio.FIRST_COMPLETED)
            if response.done():
                response.result()
        finally:
            disconnect.cancel()
            response.cancel()  # closes the connection, which the model process takes for a disconnected client


async def _forward(client: httpx.AsyncClient, request: httpx.Request, send: Send) -> None:
    try:
        response = await client.send(request, stream=True)
    except httpx.TransportError as error:
        raise BusyError("the model process is starting", fix="retry in a moment") from error
    try:
        headers = [(name.lower(), value) for name, value in response.headers.raw]
        headers = [(name, value) for name, value in headers if name not in _CONNECTION_HEADERS]
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        async for part in response.aiter_raw():
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        await response.aclose()


def _url(scope: Scope) -> httpx.URL:
    target = scope["raw_path"].partition(b"?")[0]
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    return httpx.URL("http://models", raw_path=target)


def _forwarded_headers(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name not in (*_CONNECTION_HEADERS, *_GATE_HEADERS, CLIENT)]


async def _body(receive: Receive, body_read: asyncio.Event) -> AsyncIterator[bytes]:
    more_body = True
    while more_body:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            break
        yield message["body"]
        more_body = message.get("more_body", False)
    body_read.set()


async def _wait_for_disconnect(receive: Receive, body_read: asyncio.Event) -> None:
    await body_read.wait()
    await wait_for_disconnect(receive)
