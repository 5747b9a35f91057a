"""Route of SQL over the runs: read only, bounded, one process per query."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa
from litestar import Request, Response, post
from litestar.concurrency import sync_to_thread
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody

from tegakari.schemas.errors import NotFoundError, QueryError, SqlError
from tegakari.schemas.sql import MAX_RUNS, SqlColumn, SqlRequest, SqlResult
from tegakari.service.engine.sql_processes import SqlProcesses
from tegakari.service.http.disconnect import while_connected
from tegakari.service.http.negotiation import FORMATS, JSON, accepted_format, check_format
from tegakari.service.http.operations import NO_STORE
from tegakari.service.http.parameters import FormatName
from tegakari.service.http.problems import documented
from tegakari.store import Store
from tegakari.store.sql.sandbox import SandboxRequest

MAX_BYTES = 32 * 2**20
"""of Arrow per response"""

_encode = msgspec.json.Encoder(enc_hook=str).encode


@post(
    "/sql",
    operation_id="querySql",
    summary="SQL over the runs",
    status_code=200,
    responses={
        200: ResponseSpec(SqlResult, description="The rows.", generate_examples=False),
        **documented(400, 404, 413, 415, 500, 503),
    },
    cache_control=NO_STORE,
)
async def query_sql(
    store: NamedDependency[Store],
    sql_processes: NamedDependency[SqlProcesses],
    data: JSONBody[SqlRequest],
    request: Request[Any, Any, Any],
    format: FormatName = None,
) -> Response[bytes]:
    """One SELECT over all tables of the runs, each with a `run` column; values are bound with `$name`."""
    name = check_format(format) if format else accepted_format(request.scope)
    query = SandboxRequest(
        store=str(store.directory.absolute()),
        runs=await sync_to_thread(_run_names, store, data.runs),
        sql=data.sql,
        parameters=data.parameters,
        rows=data.limit,
        bytes=MAX_BYTES,
        seconds=data.seconds,
    )
    reply, stream = await while_connected(request, sql_processes.run(query))
    body = await sync_to_thread(_body, stream, name, truncated=reply.truncated)
    media_type = JSON if name == "json" else FORMATS[name].media_type
    headers = {"Tegakari-Truncated": "true"} if reply.truncated else None
    return Response(body, media_type=media_type, headers=headers)


def _run_names(store: Store, names: list[str] | None) -> list[str]:
    published = store.names()
    if names is None:
        if len(published) > MAX_RUNS:
            raise QueryError(f"the store has {len(published)} runs", field="runs", fix=f"name at most {MAX_RUNS}")
        names = [run.name for run in store.runs()]  # a damaged run must not make every query fail
    elif unknown := sorted(set(names) - set(published)):
        raise NotFoundError(f"no run {unknown[0]!r}", field="runs", fix="GET /v1/runs lists the published runs")
    if not names or len(names) > MAX_RUNS:
        raise QueryError(f"{len(names)} runs are given", field="runs", fix=f"name 1 to {MAX_RUNS} published runs")
    return sorted(set(names))


def _body(stream: bytes, name: str, *, truncated: bool) -> bytes:
    """The rows of an Arrow stream in a format.

    Raises:
        SqlError: the format cannot represent one of the values.
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
        raise SqlError(f"{name} cannot represent the result: {error}", field="format", fix="use format=arrow") from None


HANDLERS = (query_sql,)
