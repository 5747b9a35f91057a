"""How answers are sent: JSON, and any list also as CSV, Parquet or Arrow, with the fields that were asked for."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from types import UnionType
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import parse_qs, quote, urlencode

import msgspec
import pyarrow as pa
from litestar import Request, Response
from litestar.handlers.base import BaseRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send

from tegakari.schemas.api import Page
from tegakari.schemas.errors import QueryError
from tegakari.service.http.headers import header, preferences
from tegakari.store.export import formats

LIST_PARAMETERS = ("format", "fields")
"""Query parameters that every list takes."""

T = TypeVar("T")


class Format(NamedTuple):
    """A form of a list other than JSON."""

    media_type: str
    write: Callable[[pa.Table], bytes]


def _file(form: str) -> Callable[[pa.Table], bytes]:
    """One of the forms of files, which `tegakari sql` and exports write as well."""

    def write(table: pa.Table) -> bytes:
        sink = io.BytesIO()
        formats.write(sink, table.to_reader(), form)
        return sink.getvalue()

    return write


def _arrow(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


FORMATS = {
    "csv": Format("text/csv", _file("csv")),
    "parquet": Format("application/vnd.apache.parquet", _file("parquet")),
    "arrow": Format("application/vnd.apache.arrow.stream", _arrow),
}
"""By name, as `format` takes it; JSON is what everything else is."""

JSON = "application/json"

_encode = msgspec.json.Encoder().encode


class Answer(Response[T]):
    """The response of every route below /v1: its content is encoded as the request wants it."""

    def to_asgi_response(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, app: object, request: Request[Any, Any, Any], *, headers: dict[str, str] | None = None, **_: Any
    ) -> ASGIApp:
        content, headers = self.content, {**(headers or {}), **self.headers}
        media_type = JSON
        rows = row_type(request.route_handler)
        if isinstance(content, Page) and rows:
            asked = parse_qs(request.scope["query_string"].decode("ascii")) if request.scope["query_string"] else {}
            fields = _fields(asked["fields"][0], rows) if "fields" in asked else None
            name = asked["format"][0] if "format" in asked else by_accept(request.scope)
            if name in FORMATS:
                form = FORMATS[name]
                body, media_type = form.write(table_of(content.items, rows, fields)), form.media_type
                if content.next:
                    headers = {**headers, "Link": f'<{_next(request.scope, asked, content.next)}>; rel="next"'}
            elif name == "json":
                body = _encode(content if fields is None else _narrow(content, fields))
            else:
                raise QueryError(
                    f"{name!r} is no format", field="format", fix=f"use one of: json, {', '.join(FORMATS)}"
                )
        elif isinstance(content, bytes):
            body, media_type = content, str(self.media_type or media_type)
        else:
            body = b"" if content is None else _encode(content)
        return _Encoded(self.status_code or 200, media_type, body, headers)


class _Encoded:
    """An answer in bytes; what Litestar's own does, without what is not used here."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(self, status: int, media_type: str, body: bytes, headers: dict[str, Any]) -> None:
        self._status = status
        self._body = body
        kind = f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type
        self._headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
        self._headers += [(name.lower().encode(), str(value).encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})


@lru_cache
def row_type(handler: BaseRouteHandler) -> type[msgspec.Struct] | None:
    """What the items of a list route are; None for a route that answers no list."""
    answered = handler.parsed_fn_signature.return_type.annotation
    return get_args(answered)[0] if get_origin(answered) is Page else None


def table_of(items: list[Any], rows: type[msgspec.Struct], fields: tuple[str, ...] | None) -> pa.Table:
    """Rows of a list as an Arrow table, with the types of the struct even where there are no rows."""
    hints = get_type_hints(rows)
    schema = pa.schema([(name, _arrow_type(hints[name])) for name in fields or rows.__struct_fields__])
    table: pa.Table = pa.Table.from_pylist(msgspec.to_builtins(items), schema=schema)
    return table


def _arrow_type(hint: Any) -> pa.DataType:
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (kind for kind in get_args(hint) if kind is not type(None))
    if get_origin(hint) is list:
        return pa.list_(_arrow_type(get_args(hint)[0]))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return pa.struct([(name, _arrow_type(kind)) for name, kind in get_type_hints(hint).items()])
    return {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}.get(hint, pa.string())


def _fields(text: str, rows: type[msgspec.Struct]) -> tuple[str, ...]:
    known = rows.__struct_fields__
    fields = tuple(text.split(","))
    for name in fields:
        if name not in known:
            raise QueryError(f"{name!r} is no field", field="fields", fix=f"fields: {', '.join(known)}")
    return tuple(dict.fromkeys(fields))


def _narrow(page: Page[Any], fields: tuple[str, ...]) -> Page[dict[str, Any]]:
    return Page([{name: getattr(item, name) for name in fields} for item in page.items], page.next)


def by_accept(scope: Scope) -> str:
    """The most wanted form that there is; JSON where none of them is named."""
    for wanted in preferences(header(scope, b"accept")):
        if wanted in (JSON, "*/*", "application/*"):
            break
        for name, form in FORMATS.items():
            if wanted == form.media_type:
                return name
    return "json"


def _next(scope: Scope, asked: dict[str, list[str]], cursor: str) -> str:
    return f"{quote(scope['path'], safe='/%')}?{urlencode({**{k: v[0] for k, v in asked.items()}, 'cursor': cursor})}"
