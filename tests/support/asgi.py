"""Requests to an application as a server would pass them on: paths and headers as bytes, which HTTP clients tidy up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from litestar.testing import TestClient

from tegakari.schemas.config import ServiceConfig
from tegakari.service.app import Api, create_app


class AsgiResponse(NamedTuple):
    """Status, headers in lower case, and body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header; None: the response does not have it."""
        return next((value.decode("latin-1") for key, value in self.headers if key.decode() == name), None)


class AsgiClient:
    """Sends requests to an application that has been started."""

    def __init__(self, client: TestClient[Api]) -> None:
        self._client = client

    @property
    def app(self) -> Api:
        """The application."""
        return self._client.app

    def request(
        self,
        method: str,
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]] = ((b"host", b"127.0.0.1"),),
        body: bytes = b"",
    ) -> AsgiResponse:
        """The response to one request.

        Args:
            method: of the request.
            target: path and query, as uvicorn gets them from the request line.
            headers: all of the request; names in lower case.
            body: of the request, in one piece.
        """
        path, _, query = target.partition(b"?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 1),
            "scheme": "http",
            "method": method,
            "root_path": "",
            "path": unquote(path.decode("ascii", "replace")),
            "raw_path": path,
            "query_string": query,
            "headers": list(headers),
        }
        received: list[Any] = []
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            if message := next(messages, None):
                return message
            return await asyncio.Event().wait()  # the client stays connected

        async def send(message: Any) -> None:
            received.append(message)

        self._client.blocking_portal.call(self.app, scope, receive, send)
        start, *bodies = received
        return AsgiResponse(start["status"], list(start["headers"]), b"".join(part.get("body", b"") for part in bodies))


class KeyedClient(NamedTuple):
    """A client of a service with keys, and two of them."""

    client: AsgiClient
    read_key: str
    compute_key: str


@contextmanager
def asgi_client(store: Path, config: ServiceConfig | None = None, *, keys: Path | None = None) -> Iterator[AsgiClient]:
    """An application over a store, started in this process."""
    app = create_app(store, config or ServiceConfig(log="off", warm="off"), keys=keys)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield AsgiClient(client)
