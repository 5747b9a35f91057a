"""Connections that do not say what they want in time are closed."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 10.0
"""Time that a connection has for the first request, and each request for its headers."""

MAX_HEADER_BYTES = 65_536
"""Largest request line and headers."""


class SlowClientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which waits for headers for ever, with a limit to their time and size."""

    _waiting: asyncio.TimerHandle | None = None
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._header_bytes += len(data)
            if self._waiting is None:
                self._wait()
            if self._header_bytes > MAX_HEADER_BYTES and self._waiting is not None:
                super().data_received(data)
                if self._waiting is not None:  # still no end of the headers
                    self.send_400_response("Headers too large.")
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._rest()
        super().on_headers_complete()

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(HEADER_SECONDS, self._close)

    def _rest(self) -> None:
        self._header_bytes = 0
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _close(self, *_: Any) -> None:
        self._waiting = None
        if not self.transport.is_closing():
            self.transport.close()
