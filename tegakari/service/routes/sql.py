"""Route of SQL over the runs: read only, bounded, one process per query."""

from __future__ import annotations

from typing import Any

import structlog
from litestar import Request, Response, post
from litestar.concurrency import sync_to_thread
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody
from litestar.types import ASGIApp, Receive, Scope, Send

from tegakari.schemas.config import ServiceConfig
from tegakari.schemas.errors import QueryError
from tegakari.schemas.sql import MAX_BODY_BYTES, MAX_RUNS, SqlRequest, SqlResult
from tegakari.service.engine.sql_processes import SqlBody, SqlProcesses
from tegakari.service.http.compression import coding_of, is_textual
from tegakari.service.http.disconnect import break_connection, while_connected
from tegakari.service.http.etags import no_run
from tegakari.service.http.headers import header
from tegakari.service.http.negotiation import accepted_format, check_format, content_type, media_type_of
from tegakari.service.http.operations import NO_STORE
from tegakari.service.http.parameters import FormatName
from tegakari.service.http.problems import documented
from tegakari.store import Store
from tegakari.store.sql.sandbox import SandboxRequest

log = structlog.get_logger()


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
    request_max_body_size=MAX_BODY_BYTES,
)
async def query_sql(
    store: NamedDependency[Store],
    sql_processes: NamedDependency[SqlProcesses],
    data: JSONBody[SqlRequest],
    limits: NamedDependency[ServiceConfig],
    request: Request[Any, Any, Any],
    format: FormatName = None,
) -> Response[SqlBody]:
    """One SELECT over all tables of the runs, each with a `run` column; values are bound with `$name`."""
    name = check_format(format) if format else accepted_format(request.scope)
    textual = is_textual(media_type_of(name).encode())
    query = SandboxRequest(
        store=str(store.directory.absolute()),
        runs=await sync_to_thread(_run_names, store, data.runs),
        sql=data.sql,
        parameters=data.parameters,
        rows=data.limit,
        bytes=limits.max_result_bytes,
        seconds=data.seconds,
        format=name,
        coding=coding_of(header(request.scope, b"accept-encoding")) if textual else None,
    )
    return SqlResponse(await while_connected(request, sql_processes.run(query)), media_type=media_type_of(name))


class SqlResponse(Response[SqlBody]):
    """Passes the body on as its process sends it."""

    def to_asgi_response(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, app: object, request: Request[Any, Any, Any], *, headers: dict[str, str] | None = None, **_: Any
    ) -> ASGIApp:
        body, reply = self.content, self.content.reply
        fields = {**(headers or {}), "Content-Type": content_type(str(self.media_type)), "Content-Length": reply.size}
        if reply.coding:
            fields |= {"Content-Encoding": reply.coding}
        if reply.truncated:
            fields |= {"Tegakari-Truncated": "true"}

        async def send_parts(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                encoded = [(name.lower().encode(), str(value).encode()) for name, value in fields.items()]
                await send({"type": "http.response.start", "status": 200, "headers": encoded})
                async for part in body.parts():
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            except EOFError:  # the client sees that the body is shorter than its Content-Length
                log.warning("SQL result was not sent in time", path=scope["path"])
                await break_connection(scope, receive)
            finally:
                body.close()

        return send_parts


def _run_names(store: Store, names: list[str] | None) -> list[str]:
    published = store.names()
    if names is None:
        if len(published) > MAX_RUNS:
            raise QueryError(f"the store has {len(published)} runs", field="runs", fix=f"name at most {MAX_RUNS}")
        names = [run.name for run in store.runs()]  # a damaged run must not make every query fail
    elif unknown := sorted(set(names) - set(published)):
        raise no_run(store, unknown[0], field="runs")
    if not names or len(names) > MAX_RUNS:
        raise QueryError(f"{len(names)} runs are given", field="runs", fix=f"name 1 to {MAX_RUNS} published runs")
    return sorted(set(names))


HANDLERS = (query_sql,)
