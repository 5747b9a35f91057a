"""Cancels work when the client closes the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from litestar import Request
from litestar.exceptions import HTTPException
from litestar.types import Receive, Scope

T = TypeVar("T")

ABORT = "tegakari.abort"
"""Extension of ASGI by the server: its `abort` closes the connection at once, without what has not been sent."""

CLIENT_GONE = 499
"""Status for the log, as in nginx: nobody reads the response."""


async def while_connected(request: Request[Any, Any, Any], work: Coroutine[Any, Any, T]) -> T:
    """Await work, and cancel it when the client closes the connection. The request's body must have been read."""
    working = asyncio.create_task(work)
    disconnected = asyncio.create_task(wait_for_disconnect(request.receive))
    try:
        await asyncio.wait({working, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise HTTPException(status_code=CLIENT_GONE, detail="the client closed the connection")
    finally:
        disconnected.cancel()
        working.cancel()


async def break_connection(scope: Scope, receive: Receive) -> None:
    """Close the connection in the middle of a response, so that the client does not take it for a whole one."""
    abort = abort_of(scope)
    if abort is None:
        raise ConnectionAbortedError("the response is incomplete")
    abort()
    await wait_for_disconnect(receive)


def abort_of(scope: Scope) -> Callable[[], None] | None:
    """Closes the connection of a request at once; None: the server is another than `tegakari serve`."""
    extension: Any = (scope.get("extensions") or {}).get(ABORT)
    return extension["abort"] if extension else None


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client closes the connection. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
