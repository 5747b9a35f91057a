"""Content negotiation: responses are JSON; lists also come as CSV, XLSX, Parquet or Arrow, and with selected fields."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar, get_args, get_origin
from urllib.parse import parse_qs, urlencode

import msgspec
import pyarrow as pa
from litestar import Request, Response
from litestar.concurrency import sync_to_thread
from litestar.handlers.base import BaseRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send

from tegakari.schemas.api import Page
from tegakari.schemas.errors import QueryError, StoreError
from tegakari.service.http.headers import header, preferences
from tegakari.service.http.paths import address_of
from tegakari.store.export.arrow import rows_table
from tegakari.store.export.formats import write as write_file
from tegakari.store.export.spreadsheets import xlsx_in_memory

LIST_PARAMETERS = ("format", "fields")
"""Query parameters of every list."""

T = TypeVar("T")


class Format(NamedTuple):
    """A format of lists other than JSON."""

    media_type: str
    write: Callable[[pa.Table], bytes]


def _file_writer(name: str) -> Callable[[pa.Table], bytes]:
    """Writer of a file format that `tegakari sql` and exports write as well."""

    def write(table: pa.Table) -> bytes:
        sink = io.BytesIO()
        write_file(sink, table.to_reader(), name)
        return sink.getvalue()

    return write


def _write_arrow_stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _write_xlsx(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    try:
        with xlsx_in_memory(sink, table.schema) as writer:
            for batch in table.to_batches():
                writer.write_batch(batch)
    except StoreError as error:
        raise QueryError(error.message, field="format", fix="use format=csv or select other fields") from None
    return sink.getvalue()


FORMATS = {
    "csv": Format("text/csv", _file_writer("csv")),
    "xlsx": Format("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", _write_xlsx),
    "parquet": Format("application/vnd.apache.parquet", _file_writer("parquet")),
    "arrow": Format("application/vnd.apache.arrow.stream", _write_arrow_stream),
}
"""By name, as the parameter `format` takes it; JSON, named `json`, is the default."""

JSON = "application/json"

_encode = msgspec.json.Encoder().encode


class NegotiatedResponse(Response[T]):
    """The response of every route below /v1, in the format and with the fields that the request selects."""

    def to_asgi_response(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, app: object, request: Request[Any, Any, Any], *, headers: dict[str, str] | None = None, **_: Any
    ) -> ASGIApp:
        content, headers = self.content, {**(headers or {}), **self.headers}
        media_type = JSON
        rows = row_type(request.route_handler)
        if isinstance(content, Page) and rows:
            query = parse_qs(request.scope["query_string"].decode("ascii")) if request.scope["query_string"] else {}
            fields = _fields(query["fields"][0], rows) if "fields" in query else None
            name = check_format(query["format"][0]) if "format" in query else accepted_format(request.scope)
            if name in FORMATS:
                media_type = FORMATS[name].media_type
                body = partial(_write_page, name, content, rows, fields)
                if content.next:
                    headers = {**headers, "Link": f'<{_next_url(request.scope, query, content.next)}>; rel="next"'}
            else:
                body = _encode(content if fields is None else _select_fields(content, fields))
        elif isinstance(content, bytes):
            body, media_type = content, str(self.media_type or media_type)
        else:
            body = b"" if content is None else _encode(content)
        return _EncodedResponse(self.status_code or 200, media_type, body, headers)


def _write_page(name: str, page: Page[Any], rows: type[msgspec.Struct], fields: tuple[str, ...] | None) -> bytes:
    return FORMATS[name].write(rows_table(page.items, rows, fields))


class _EncodedResponse:
    """Sends a response of bytes, or of what a function returns that is called in a thread.

    Litestar's own does the same with options that no route uses.
    """

    __slots__ = ("_body", "_headers", "_status")

    def __init__(
        self, status: int, media_type: str, body: bytes | Callable[[], bytes], headers: dict[str, Any]
    ) -> None:
        self._status = status
        self._body = body
        self._headers = [(b"content-type", content_type(media_type).encode())]
        self._headers += [(name.lower().encode(), str(value).encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = self._body if isinstance(self._body, bytes) else await sync_to_thread(self._body)
        self._headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


@lru_cache
def row_type(handler: BaseRouteHandler) -> type[msgspec.Struct] | None:
    """Type of the items of a list route; None for a route that returns no list."""
    result = handler.parsed_fn_signature.return_type.annotation
    return get_args(result)[0] if get_origin(result) is Page else None


def _fields(text: str, rows: type[msgspec.Struct]) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in rows.__struct_fields__:
            raise QueryError(
                f"{name!r} is not a field of the list",
                field="fields",
                fix=f"fields: {', '.join(rows.__struct_fields__)}",
            )
    return tuple(dict.fromkeys(names))


def _select_fields(page: Page[Any], fields: tuple[str, ...]) -> Page[dict[str, Any]]:
    return Page([{name: getattr(item, name) for name in fields} for item in page.items], page.next)


def check_format(name: str) -> str:
    """The value of the parameter `format`.

    Raises:
        QueryError: it is no format.
    """
    if name not in ("json", *FORMATS):
        raise QueryError(f"{name!r} is not a format", field="format", fix=f"use one of: json, {', '.join(FORMATS)}")
    return name


def media_type_of(name: str) -> str:
    """Media type of a format that `check_format` accepts."""
    return FORMATS[name].media_type if name in FORMATS else JSON


def content_type(media_type: str) -> str:
    """Value of Content-Type for a media type."""
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type


def accepted_format(scope: Scope) -> str:
    """Name of the format that the header `Accept` prefers; `json` if it names none of the formats."""
    for media_type in preferences(header(scope, b"accept")):
        if media_type in (JSON, "*/*", "application/*"):
            break
        for name, format_ in FORMATS.items():
            if media_type == format_.media_type:
                return name
    return "json"


def _next_url(scope: Scope, query: dict[str, list[str]], cursor: str) -> str:
    parameters = {**{name: values[0] for name, values in query.items()}, "cursor": cursor}
    return f"{address_of(scope)}?{urlencode(parameters)}"
