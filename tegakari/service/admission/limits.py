"""Limits per client: requests per second, and size and duration of a body."""

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
    """Requests per second of each client, counted across all workers.

    The generic cell rate algorithm: one number per client, the time up to which its requests so far are paid for, in
    memory that the workers map. Two workers that write at the same time may admit one request too many.
    """

    def __init__(self, shared: Path | None = None) -> None:
        """Start with no request counted.

        Args:
            shared: file that all workers map; None: this process counts alone.
        """
        if shared is None:
            self._paid_until = np.zeros(_SLOTS)
        else:
            with shared.open("ab") as stream:
                stream.truncate(_SLOTS * 8)
            self._paid_until = np.memmap(shared, np.float64, "r+", shape=(_SLOTS,))

    def admit(self, client: str, requests_per_second: float) -> None:
        """Count a request; those of one second may come in one burst.

        Raises:
            RateError: the client exceeds its rate.
        """
        slot = zlib.crc32(client.encode()) % _SLOTS
        now, interval = time.monotonic(), 1 / requests_per_second
        paid_until = max(now, self._paid_until[slot])
        early = paid_until - now - max(1.0, interval) + interval
        if early > 1e-9:
            raise RateError(f"more than {requests_per_second:g} requests per second", retry_after=early)
        self._paid_until[slot] = paid_until + interval


def limited_body(receive: Receive, *, max_bytes: int, seconds: float) -> Receive:
    """Limit the size and the duration of a request's body.

    Args:
        receive: of the request.
        max_bytes: size of the body.
        seconds: from now until the end of the body.

    Returns:
        a callable that returns the same messages; it raises TooLargeError or TooSlowError.
    """
    remaining, deadline, complete = max_bytes, time.monotonic() + seconds, False

    async def receive_next() -> Any:
        nonlocal remaining, complete
        if complete:  # the next message is the client's disconnect
            return await receive()
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                message = await receive()
        except TimeoutError:
            raise TooSlowError(
                f"the body was incomplete after {seconds:g} s", fix="send the body faster, or a smaller one"
            ) from None
        if message["type"] == "http.request":
            remaining -= len(message.get("body", b""))
            if remaining < 0:
                raise too_large(max_bytes)
            complete = not message.get("more_body", False)
        return message

    return receive_next


def too_large(max_bytes: int) -> TooLargeError:
    """The error of a body that exceeds the maximum."""
    return TooLargeError(f"the body is larger than {max_bytes:,} bytes", fix="split the request into smaller ones")
