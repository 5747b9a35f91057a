"""Several workers, one process for the models: what runs them is passed on to it over a socket of the machine.

The process answers with the same application, so that its queue, its jobs and its models are there once, however many
workers there are. Only what the routes say with `live=True` goes there.
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
from tegakari.service.admission.keys import require_scope

SOCKET = "models.sock"
"""in the directory that the workers share"""

LIVE = "live"
"""Option of a route that needs the models' process."""

_OF_ONE_CONNECTION = (b"host", b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te", b"expect")
_OF_THE_FRONT = (b"accept-encoding", b"authorization", b"x-api-key")


def models_client(shared: Path) -> httpx.AsyncClient:
    """A client of the models' process; it connects when the first request comes.

    Args:
        shared: directory with the process's socket.
    """
    transport = httpx.AsyncHTTPTransport(uds=str(shared / SOCKET))
    return httpx.AsyncClient(transport=transport, timeout=None, trust_env=False)


class ForwardToModelProcess(ASGIMiddleware):
    """Passes requests for the models on to their process, and its answers back as they come."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if LIVE not in scope["route_handler"].opt:
            await next_app(scope, receive, send)
            return
        require_scope(scope)  # the process asks for no keys
        models: httpx.AsyncClient = scope["litestar_app"].state.models
        read = asyncio.Event()
        request = models.build_request(
            scope.get("method", "POST"), _url(scope), headers=_passed(scope["headers"]), content=_body(receive, read)
        )
        answering = asyncio.create_task(_answer(models, request, send))
        leaving = asyncio.create_task(_left(receive, read))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
        finally:
            leaving.cancel()
            answering.cancel()  # closes the connection, which the process takes for a client that left


async def _answer(models: httpx.AsyncClient, request: httpx.Request, send: Send) -> None:
    try:
        response = await models.send(request, stream=True)
    except httpx.TransportError as error:
        raise BusyError("the process that runs the models is starting", fix="ask again in a moment") from error
    try:
        headers = [(name.lower(), value) for name, value in response.headers.raw]
        headers = [(name, value) for name, value in headers if name not in _OF_ONE_CONNECTION]
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


def _passed(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name not in (*_OF_ONE_CONNECTION, *_OF_THE_FRONT)]


async def _body(receive: Receive, read: asyncio.Event) -> AsyncIterator[bytes]:
    more = True
    while more:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            break
        yield message["body"]
        more = message.get("more_body", False)
    read.set()


async def _left(receive: Receive, read: asyncio.Event) -> None:
    """Wait until the client goes away; only once its body is read is that the next thing to be received."""
    await read.wait()
    while (await receive())["type"] != "http.disconnect":
        pass
