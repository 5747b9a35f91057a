"""Waiting for an answer only as long as the client does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from litestar import Request
from litestar.exceptions import HTTPException

T = TypeVar("T")

CLIENT_GONE = 499
"""Status for the log, as nginx has it: nobody reads the answer."""


async def while_connected(request: Request[Any, Any, Any], answer: Coroutine[Any, Any, T]) -> T:
    """Await an answer, and cancel it when the client closes the connection. The body must have been read."""
    working = asyncio.create_task(answer)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise HTTPException(status_code=CLIENT_GONE, detail="the client closed the connection")
    finally:
        gone.cancel()
        working.cancel()


async def _disconnected(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
