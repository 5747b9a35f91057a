"""Closes connections that do not send a request line and headers in time."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 10.0
"""Time until the first request of a connection, and for the headers of each request."""

MAX_HEADER_BYTES = 65_536
"""Maximum size of request line and headers together."""


class SlowClientProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with a limit on time and size of the headers, which it lacks."""

    _timeout: asyncio.TimerHandle | None = None
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timeout()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._header_bytes += len(data)
            if self._timeout is None:
                self._start_timeout()
            if self._header_bytes > MAX_HEADER_BYTES and self._timeout is not None:
                super().data_received(data)
                if self._timeout is not None:  # the headers are still incomplete
                    self.send_400_response("Headers too large.")
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._stop_timeout()
        super().on_headers_complete()

    def _start_timeout(self) -> None:
        self._timeout = self.loop.call_later(HEADER_SECONDS, self._close)

    def _stop_timeout(self) -> None:
        self._header_bytes = 0
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def _close(self, *_: Any) -> None:
        self._timeout = None
        if not self.transport.is_closing():
            self.transport.close()
