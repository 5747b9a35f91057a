"""How much one client may ask: requests a second, and the size and duration of a body."""

from __future__ import annotations

import asyncio
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from litestar.types import Receive

from tegakari.schemas.errors import RateError, TooLargeError, TooSlowError

_SLOTS = 65_536


class Rates:
    """Requests a second of each client, counted by all workers together.

    The generic cell rate algorithm: one number a client, the time up to which its requests so far are paid for, in
    memory that the workers map. Two that write at once may let one request too many through.
    """

    def __init__(self, shared: Path | None = None) -> None:
        """Start with nothing asked.

        Args:
            shared: a file for all workers; None: this process counts alone.
        """
        if shared is None:
            self._paid_until = np.zeros(_SLOTS)
        else:
            with shared.open("ab") as stream:
                stream.truncate(_SLOTS * 8)
            self._paid_until = np.memmap(shared, np.float64, "r+", shape=(_SLOTS,))

    def admit(self, client: str, requests_per_second: float) -> None:
        """Count a request; a second's worth may come at once.

        Raises:
            RateError: it came too early.
        """
        slot = zlib.crc32(client.encode()) % _SLOTS
        now, interval = time.monotonic(), 1 / requests_per_second
        paid_until = max(now, self._paid_until[slot])
        early = paid_until - now - max(1.0, interval) + interval
        if early > 1e-9:
            raise RateError(f"more than {requests_per_second:g} requests a second", retry_after=early)
        self._paid_until[slot] = paid_until + interval


def limited_body(receive: Receive, *, largest: int, seconds: float) -> Receive:
    """A request's body, up to a size and within a time.

    Args:
        receive: of the request.
        largest: bytes.
        seconds: from now until the last piece.

    Returns:
        what gives the same pieces. It raises TooLargeError or TooSlowError.
    """
    left, deadline, complete = largest, time.monotonic() + seconds, False

    async def receive_next() -> Any:
        nonlocal left, complete
        if complete:  # from here on it is asked whether the client is still there
            return await receive()
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                message = await receive()
        except TimeoutError:
            raise TooSlowError(
                f"the body was not there after {seconds:g} s", fix="send it faster, or less of it"
            ) from None
        if message["type"] == "http.request":
            left -= len(message.get("body", b""))
            if left < 0:
                raise too_large(largest)
            complete = not message.get("more_body", False)
        return message

    return receive_next


def too_large(largest: int) -> TooLargeError:
    """What is said of a body that is larger than the limit."""
    return TooLargeError(f"the body is larger than {largest:,} bytes", fix="ask for less at once")
