"""SQL over the runs, for whoever may ask: read only, bounded, in processes of their own."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pyarrow as pa
from litestar import Request, Response, post
from litestar.concurrency import sync_to_thread
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody

from tegakari.schemas.errors import NotFoundError, QueryError, SqlError
from tegakari.schemas.sql import MAX_RUNS, SqlColumn, SqlRequest, SqlResult
from tegakari.service.engine.sql_processes import Sandboxes
from tegakari.service.http.disconnect import while_connected
from tegakari.service.http.negotiation import FORMATS, JSON, by_accept
from tegakari.service.http.parameters import optional
from tegakari.service.http.problems import documented
from tegakari.store import Store
from tegakari.store.sql.sandbox import SandboxRequest

MAX_BYTES = 32 * 2**20
"""of Arrow in one answer"""

FormatName = Annotated[
    str | None,
    optional("form of the answer; default: as `Accept` says, else json", type="string", enum=["json", *FORMATS]),
]

_encode = msgspec.json.Encoder(enc_hook=str).encode


@post(
    "/sql",
    operation_id="querySql",
    summary="SQL over the runs",
    status_code=200,
    responses={
        200: ResponseSpec(SqlResult, description="The rows.", generate_examples=False),
        **documented(400, 404, 413, 500, 503),
    },
    cache_control=CacheControlHeader(no_store=True),
)
async def query_sql(
    store: NamedDependency[Store],
    sandboxes: NamedDependency[Sandboxes],
    data: JSONBody[SqlRequest],
    request: Request[Any, Any, Any],
    format: FormatName = None,
) -> Response[bytes]:
    """One SELECT over all tables of the runs, each with a `run` column; values are bound with `$name`."""
    name = format or by_accept(request.scope)
    if name not in ("json", *FORMATS):
        raise QueryError(f"{name!r} is no format", field="format", fix=f"use one of: json, {', '.join(FORMATS)}")
    asked = SandboxRequest(
        store=str(store.directory.absolute()),
        runs=_runs(store, data.runs),
        sql=data.sql,
        parameters=data.parameters,
        rows=data.limit,
        bytes=MAX_BYTES,
        seconds=data.seconds,
    )
    reply, stream = await while_connected(request, sandboxes.answer(asked))
    body = await sync_to_thread(_written, stream, name, truncated=reply.truncated)
    media_type = JSON if name == "json" else FORMATS[name].media_type
    headers = {"Tegakari-Truncated": "true"} if reply.truncated else None
    return Response(body, media_type=media_type, headers=headers)


def _runs(store: Store, wanted: list[str] | None) -> list[str]:
    published = store.names()
    if wanted is None:
        if len(published) > MAX_RUNS:
            raise QueryError(f"there are {len(published)} runs", field="runs", fix=f"name {MAX_RUNS} at most")
        wanted = published
    for run in wanted:
        if run not in published:
            raise NotFoundError(f"no run {run!r}", field="runs", fix="GET /v1/runs lists the published runs")
    if not wanted or len(wanted) > MAX_RUNS:
        raise QueryError(f"{len(wanted)} runs", field="runs", fix=f"name 1 to {MAX_RUNS} published runs")
    return sorted(set(wanted))


def _written(stream: bytes, name: str, *, truncated: bool) -> bytes:
    """The rows in a format.

    Raises:
        SqlError: it cannot hold one of the values.
    """
    if name == "arrow":
        return stream
    table = pa.ipc.open_stream(stream).read_all()
    try:
        if name != "json":
            return FORMATS[name].write(table)
        columns = [SqlColumn(name=field.name, type=str(field.type)) for field in table.schema]
        return _encode(SqlResult(columns=columns, items=table.to_pylist(), truncated=truncated))
    except (pa.ArrowException, ValueError, OverflowError, TypeError) as error:
        raise SqlError(f"{name} cannot hold the answer: {error}", field="format", fix="use format=arrow") from None


HANDLERS = (query_sql,)
