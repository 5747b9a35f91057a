"""Requests as bytes on a connection: targets and headers that no HTTP library sends."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple


class RawResponse(NamedTuple):
    """Status, header lines and body."""

    status: int
    head: str
    body: bytes


_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


def message(
    method: str,
    target: str,
    *,
    version: str = "1.1",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    close: bool = True,
) -> bytes:
    """A request as bytes.

    Args:
        method: of the request.
        target: of the request, as it is.
        version: of HTTP.
        headers: all headers but Connection and Content-Length.
        body: of the request; GET, HEAD and OPTIONS have none.
        close: whether the server is told to close the connection after it.
    """
    fields = dict(headers or {})
    if method in ("GET", "HEAD", "OPTIONS"):
        body = b""
    else:
        fields["Content-Length"] = str(len(body))
    if close:
        fields["Connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {target} HTTP/{version}\r\n{lines}\r\n".encode("latin-1") + body


def exchange(host: str, port: int, sent: bytes, *, seconds: float = 15) -> bytes:
    """What a server sends until it closes the connection, or until it is silent for some seconds."""
    received = b""
    with socket.create_connection((host, port), timeout=seconds) as connection:
        with suppress(OSError):  # the server may close the connection before it has read everything
            connection.sendall(sent)
        with suppress(ConnectionResetError):
            while part := connection.recv(65536):
                received += part
    return received


def send_raw(host: str, port: int, sent: bytes) -> RawResponse:
    """The response to one request, which tells the server to close the connection."""
    head, _, body = exchange(host, port, sent).partition(b"\r\n\r\n")
    return RawResponse(int(head.split(b" ", 2)[1]), head.decode("latin-1"), body)


def statuses(host: str, port: int, requests: Sequence[bytes], *, last: bytes) -> list[int]:
    """Status of each request, sent one behind the other on as few connections as the server allows.

    Args:
        host: to connect to.
        port: to connect to.
        requests: that leave the connection open.
        last: a request that closes it.
    """
    results: list[int] = []
    while len(results) < len(requests):
        rest = requests[len(results) :]
        received = _STATUS.findall(exchange(host, port, b"".join(rest) + last))
        assert received
        results += [int(status) for status in received[: len(rest)]]
    return results
