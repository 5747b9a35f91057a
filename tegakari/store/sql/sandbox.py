"""Sandbox for untrusted SQL over the tables of runs: what a process does that runs one query.

Three independent layers confine the query, so that a hole in one is not enough to escape:

- the process (`fork_server.py`): it can write no files, memory and processor time are bounded, its environment is
  nearly empty, it is the first that the system ends when memory is short, and it ends with its parent and its deadline;
- DuckDB: runs are attached read-only, without file system, extensions or variables of the program, and the
  configuration is locked;
- the query: one SELECT that reads the tables of runs and calls only functions known to be harmless. DuckDB's own list
  has functions that read files and settings, or take raw addresses or SQL in strings.

Activations are read from Parquet files through Arrow, so DuckDB needs no file system for them either.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from tegakari.schemas.errors import SqlError, TegakariError
from tegakari.store.export.codings import MIN_COMPRESSED_BYTES, compress
from tegakari.store.sql.body import encode_rows
from tegakari.store.sql.functions import FUNCTIONS, TABLE_FUNCTIONS
from tegakari.store.sql.views import VIEWS, add_views, named_views

MEMORY = "512MB"
"""Memory limit of DuckDB."""
THREADS = 2
BATCH_ROWS = 1000


class SandboxRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A query, read by the process from its standard input."""

    store: str
    runs: list[str]
    sql: str
    parameters: dict[str, str | int | float | bool | None]
    rows: int
    """maximum number of rows"""
    bytes: int
    """maximum size of the body"""
    seconds: float
    """time limit"""
    format: str = "arrow"
    """json, csv, parquet or arrow"""
    coding: str | None = None
    """content coding of the body, if it is large enough; None: none"""


class SandboxReply(msgspec.Struct, frozen=True, kw_only=True):
    """First line that the process sends; without an error, the body follows."""

    error: str | None = None
    field: str | None = None
    fix: str | None = None
    timed_out: bool = False
    truncated: bool = False
    size: int = 0
    """bytes of the body"""
    coding: str | None = None
    """content coding of the body"""


def connect(store: Path, runs: list[str], views: Collection[str] = VIEWS) -> duckdb.DuckDBPyConnection:
    """A locked connection with these views of these runs.

    It has a separate DuckDB instance: instances are shared by path within a process, and this one stays locked.

    Raises:
        StoreError: a run is missing or damaged.
    """
    connection = duckdb.connect(
        config={
            "memory_limit": MEMORY,
            "threads": THREADS,
            "temp_directory": "",
            "python_enable_replacements": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "allow_persistent_secrets": "false",
        }
    )
    connection.execute("SET enable_progress_bar = false")
    add_views(connection, store, runs, views)
    connection.execute("SET allowed_paths = []")  # attaching added the files of the runs
    connection.execute("SET enable_external_access = false")
    connection.execute("SET disabled_filesystems = 'LocalFileSystem'")
    connection.execute("SET lock_configuration = true")
    return connection


def check(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """Refuse everything but one SELECT that reads the tables of runs and calls only functions of `FUNCTIONS`.

    Returns:
        the query to run: `sql`, or a SELECT of the names of the tables in place of SHOW TABLES.

    Raises:
        SqlError: names the statement, function or table that is refused.
    """
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise SqlError(f"{len(statements)} statements", field="sql", fix="send one SELECT")
    try:
        kind = statements[0].type.name
    except ValueError:  # DuckDB's Python package lacks some of DuckDB's kinds
        kind = "this kind of statement"
    if kind != "SELECT":
        raise SqlError(f"{kind} is not allowed", field="sql", fix="send one SELECT")
    serialized = connection.sql("SELECT json_serialize_sql($sql::VARCHAR)", params={"sql": sql}).to_arrow_table()
    tree = msgspec.json.decode(serialized.column(0)[0].as_py())
    if tree["error"]:
        raise SqlError(f"not a plain SELECT: {tree.get('error_message', 'it cannot be parsed')}", field="sql")
    source = tree["statements"][0]["node"].get("from_table") or {}
    if source.get("type") == "SHOW_REF" and source["table_name"] == '"tables"':
        return f"SELECT unnest({list(VIEWS)}) AS name"
    nodes = list(_nodes(tree))
    from_calls = {id(node["function"]) for node in nodes if node.get("type") == "TABLE_FUNCTION"}
    tables = {*VIEWS, *_named_queries(connection, nodes)}
    qualifiers = _qualifiers(connection) if any(node.get("schema") for node in nodes) else set()
    for node in nodes:
        if "function_name" in node:
            _check_call(node, TABLE_FUNCTIONS if id(node) in from_calls else FUNCTIONS, qualifiers)
        elif node.get("type") == "BASE_TABLE" or node.get("show_type") == "SHOW":
            _check_table(node, tables)
        elif node.get("type") == "SHOW_REF" and node["show_type"] not in ("DESCRIBE", "SUMMARY"):
            raise SqlError("SHOW is allowed for TABLES only", field="sql", fix="DESCRIBE shows the columns of a table")
    return sql


def _check_call(node: dict[str, Any], functions: frozenset[str], qualifiers: set[str]) -> None:
    name = str(node["function_name"]).lower()
    # A qualifier that names no schema is a column: label.upper() is upper(label).
    if node.get("catalog") or str(node.get("schema", "")).lower() in qualifiers:
        raise SqlError(f"{name}() is not allowed with a schema", field="sql", fix="leave the schema out")
    if name not in functions:
        allowed = f"in FROM: {', '.join(sorted(TABLE_FUNCTIONS))}" if functions is TABLE_FUNCTIONS else "leave it out"
        raise SqlError(f"{name}() is not allowed here", field="sql", fix=allowed)


def _check_table(node: dict[str, Any], tables: set[str]) -> None:
    name = str(node["table_name"])
    if node.get("catalog_name") or node.get("schema_name") or name.lower() not in tables:
        raise SqlError(f"{name!r} is not a table of runs", field="sql", fix=f"tables: {', '.join(VIEWS)}")


def _named_queries(connection: duckdb.DuckDBPyConnection, nodes: list[dict[str, Any]]) -> set[str]:
    """Names that the query defines in WITH clauses.

    Raises:
        SqlError: one is also the name of a view of DuckDB, which the query could then read outside of the clause.
    """
    names = {str(entry["key"]).lower() for node in nodes for entry in (node.get("cte_map") or {}).get("map", ())}
    if not names:
        return names
    views = connection.sql("SELECT lower(view_name) FROM duckdb_views()").fetchall()
    if reserved := names & ({name for (name,) in views} - set(VIEWS)):
        raise SqlError(f"{min(reserved)!r} cannot name a query", field="sql", fix="choose another name")
    return names


def _qualifiers(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Names of the databases and schemas, in lower case."""
    rows = connection.sql("SELECT lower(database_name), lower(schema_name) FROM duckdb_schemas()").fetchall()
    return {name for row in rows for name in row}


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    """Every object in a JSON document; without recursion, because queries can be nested deeply."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


class _ExpiredError(Exception):
    """The query's time is over."""


def execute(request: SandboxRequest) -> tuple[SandboxReply, bytes | pa.Buffer]:
    """Run one query; return the reply and the body of the response, within the limits of the request."""
    connection = connect(Path(request.store), request.runs, named_views(request.sql))
    expired = threading.Event()

    def interrupt() -> None:
        expired.set()
        connection.interrupt()

    def check_time() -> None:
        if expired.is_set():
            raise _ExpiredError

    timer = threading.Timer(request.seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        query = check(connection, request.sql)
        relation = connection.sql(query, params=dict(request.parameters) or None)
        if relation is None:
            raise SqlError("the query gives no rows", field="sql", fix="send one SELECT")
        body, truncated = encode_rows(
            relation.to_arrow_reader(BATCH_ROWS),
            request.format,
            max_rows=request.rows,
            max_bytes=request.bytes,
            check_time=check_time,
        )
        coding = request.coding if len(body) >= MIN_COMPRESSED_BYTES else None
        if coding:
            body = compress(body, coding)
            check_time()
        return SandboxReply(truncated=truncated, size=len(body), coding=coding), body
    except (duckdb.Error, RuntimeError) as error:
        if expired.is_set():
            return _timed_out(request), b""
        fix = "select from the tables that docs/tables.md describes"
        return SandboxReply(error=_first_line(error), field="sql", fix=fix), b""
    except _ExpiredError:
        return _timed_out(request), b""
    except MemoryError:  # Arrow's error as well
        fix = "select fewer rows or columns"
        return SandboxReply(error="the query exceeds its memory limit", field="sql", fix=fix), b""
    except TegakariError as error:
        return SandboxReply(error=error.message, field=error.field, fix=error.fix), b""
    finally:
        timer.cancel()


def _timed_out(request: SandboxRequest) -> SandboxReply:
    return SandboxReply(error=f"no result within {request.seconds:g} s", timed_out=True)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0][:2000]
