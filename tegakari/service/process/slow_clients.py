"""Closes connections of clients that send or receive too slowly, or send more than a request needs."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tegakari.schemas.errors import BodyError
from tegakari.service.http.disconnect import ABORT
from tegakari.service.http.problems import PROBLEM_JSON, problem_of

HEADER_SECONDS = 10.0
"""Time until the first request of a connection, and for the headers of each request."""

MAX_HEADER_BYTES = 65_536
"""Maximum size of request line and headers together, and of what a chunked body has beside itself: sizes and extensions
of chunks, and trailers. Chunks may have as many bytes again as the body: those of one byte have five."""

MAX_LATE_BYTES = 2**20
"""Bytes of a body that are still read once the response has been sent."""

WRITE_BUFFER = 2**14
"""Bytes that may wait in a connection before the next part of a response must wait."""

WRITE_SECONDS = 10.0
"""Time for a client to take what waits in its connection: WRITE_BUFFER and a part of a response."""


class SlowClientProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with limits that it lacks: on time and size of what is not body, and on slow readers."""

    _timeout: asyncio.TimerHandle | None = None
    """until which the headers of the next request must be complete"""
    _write_timeout: asyncio.TimerHandle | None = None
    """until which the client must take what has been written"""
    _in_request = False
    _in_body = False
    _begun = 0
    """requests that began in the bytes that are being parsed"""
    _body_bytes = 0
    """of the current request"""
    _other_bytes = 0
    """of the current request"""
    _late_bytes = 0
    _data = b""
    """that is being parsed"""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._start_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timeout()
        self._stop_write_timeout()
        super().connection_lost(exc)

    # Receiving

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():  # refused; what it still sends is not parsed
            return
        if (self.cycle is None or self.cycle.response_complete) and self._timeout is None:
            self._start_timeout()
        is_late = self._in_request and self.cycle is not None and self.cycle.response_complete
        self._late_bytes = self._late_bytes + len(data) if is_late else 0
        began_before, body_before = self._in_request, self._body_bytes
        self._begun, self._data = 0, data
        super().data_received(data)
        self._data = b""
        if self.transport.is_closing():
            return
        if self._begun + began_before > 1:  # parts of several requests: too few bytes to matter
            self._other_bytes = 0
        else:
            self._other_bytes += len(data) - (self._body_bytes - (0 if self._begun else body_before))
        if self._other_bytes > MAX_HEADER_BYTES + self._body_bytes or self._late_bytes > MAX_LATE_BYTES:
            self._refuse("Trailers or chunks too large." if self._in_body else "Headers too large.")

    def on_message_begin(self) -> None:
        self._begun += 1
        self._in_request, self._in_body = True, False
        self._body_bytes = self._other_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # a trailer is none of the headers that the request was admitted with
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_timeout()
        self._in_body = True
        self.scope["extensions"] = {ABORT: {"abort": self._abort}}
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_request = self._in_body = False
        self._other_bytes = 0
        super().on_message_complete()

    def _refuse(self, reason: str) -> None:
        """Close the connection, with status 400 unless another response has begun."""
        if self.cycle is None or not self.cycle.response_started:
            self.send_400_response(reason)
        self._close()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request of HTTP, with a problem document, and close the connection."""
        if not self._data.partition(b"\r\n")[0].isascii():
            error = BodyError(
                "the address has characters that are not percent-encoded",
                fix="encode them as UTF-8: 車 is %E8%BB%8A; curl does so with --get --data-urlencode NAME=VALUE",
            )
        else:
            error = BodyError(msg, fix="send a request of HTTP/1.1, its address percent-encoded")
        body = msgspec.json.encode(problem_of(error))
        headers = [
            *self.server_state.default_headers,
            (b"content-type", PROBLEM_JSON.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"x-content-type-options", b"nosniff"),
            (b"connection", b"close"),
        ]
        lines = [b"HTTP/1.1 400 Bad Request", *(b"%s: %s" % header for header in headers), b"", body]
        self.transport.write(b"\r\n".join(lines))
        self.transport.close()

    def _start_timeout(self) -> None:
        self._timeout = self.loop.call_later(HEADER_SECONDS, self._close)

    def _stop_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    # Sending

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timeout()

    def resume_writing(self) -> None:
        self._stop_write_timeout()
        super().resume_writing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():  # once the client has taken the response
            self._start_write_timeout()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def _start_write_timeout(self) -> None:
        if self._write_timeout is None:
            self._write_timeout = self.loop.call_later(WRITE_SECONDS, self._abort)

    def _stop_write_timeout(self) -> None:
        if self._write_timeout is not None:
            self._write_timeout.cancel()
            self._write_timeout = None

    def _close(self, *_: Any) -> None:
        """Close the connection once the client has taken what was written, or has not in time."""
        self._timeout = None
        if not self.transport.is_closing():
            self.transport.close()
        self._start_write_timeout()

    def _abort(self) -> None:
        """Reset the connection: the kernel, too, drops what the client has not taken."""
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
