"""Sandbox for untrusted SQL over the tables of runs: a process that runs one query and ends.

Three independent layers confine the query, so that a hole in one is not enough to escape:

- the process: it can write no files (their size is limited to 0), its memory is bounded, its environment is nearly
  empty, it is the first that the system ends when memory is short, and its parent kills it when it takes too long;
- DuckDB: runs are attached read-only, without file system, extensions or variables of the program, and the
  configuration is locked;
- the query: one SELECT that calls only table functions known to be harmless. DuckDB's own list has functions that
  take raw addresses or SQL in strings.

Activations are read from Parquet files through Arrow, so DuckDB needs no file system for them either.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from tegakari.schemas.errors import SqlError, TegakariError
from tegakari.store.sql.views import add_views

MEMORY = "512MB"
"""Memory limit of DuckDB."""
ADDRESS_SPACE = 6 * 2**30
"""Address space of the process in bytes; reserved but unused memory counts."""
THREADS = 2
BATCH_ROWS = 1000

TABLE_FUNCTIONS = frozenset(
    [
        "range",
        "generate_series",
        "unnest",
        "repeat",
        "repeat_row",
        "json_each",
        "json_tree",
        "summary",
        "histogram",
        "histogram_values",
        "icu_calendar_names",
        "pg_timezone_names",
        "pragma_version",
        "pragma_table_info",
        "duckdb_tables",
        "duckdb_columns",
        "duckdb_views",
        "duckdb_functions",
        "duckdb_types",
        "duckdb_keywords",
    ]
)
"""Table functions that may be called; others read files, take addresses or SQL, or describe the machine."""

REFUSED_FUNCTIONS = frozenset(
    [
        "current_setting",
        "write_log",
        "parse_duckdb_log_message",
        "setval",
        "nextval",
        "currval",
        "json_serialize_plan",
        "json_serialize_sql",
        "json_deserialize_sql",
        "json_execute_serialized_sql",
        "combine",
        "finalize",
        "to_aggregate_state",
        "stats",
    ]
)
"""Scalar functions that may not be called: they plan SQL in strings, take raw state, write, or describe the machine."""

REFUSED_VIEWS = frozenset(("duckdb_databases", "duckdb_logs", "pragma_database_list", "pg_settings", "duckdb_secrets"))
"""Views of DuckDB that may not be read: they describe the machine."""


class SandboxRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A query, read by the process from its standard input."""

    store: str
    runs: list[str]
    sql: str
    parameters: dict[str, str | int | float | bool | None]
    rows: int
    """maximum number of rows"""
    bytes: int
    """maximum size of the rows, as Arrow"""
    seconds: float
    """time limit"""


class SandboxReply(msgspec.Struct, frozen=True, kw_only=True):
    """First line of the process's standard output; without an error, an Arrow stream of the rows follows."""

    error: str | None = None
    fix: str | None = None
    timed_out: bool = False
    truncated: bool = False


def connect(store: Path, runs: list[str]) -> duckdb.DuckDBPyConnection:
    """A locked connection with the views of these runs.

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
    add_views(connection, store, runs)
    connection.execute("SET allowed_paths = []")  # attaching added the files of the runs
    connection.execute("SET enable_external_access = false")
    connection.execute("SET disabled_filesystems = 'LocalFileSystem'")
    connection.execute("SET lock_configuration = true")
    return connection


def check(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse everything but one SELECT that calls only permitted functions and reads only permitted views.

    Raises:
        SqlError: names the statement, function or view that is refused.
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
    for node in _nodes(tree):
        name = str(node.get("function_name", "")).lower()
        if node.get("type") == "TABLE_FUNCTION":
            function = str(node["function"]["function_name"]).lower()
            if function not in TABLE_FUNCTIONS:
                allowed = ", ".join(sorted(TABLE_FUNCTIONS))
                raise SqlError(f"{function}() is not allowed here", field="sql", fix=f"table functions: {allowed}")
        elif name in REFUSED_FUNCTIONS or name.startswith("__"):
            raise SqlError(f"{name}() is not allowed", field="sql", fix="leave the call out")
        elif str(node.get("table_name", "")).lower() in REFUSED_VIEWS:
            raise SqlError(
                f"{node['table_name']} may not be read", field="sql", fix="SHOW TABLES lists the readable ones"
            )


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


def execute(request: SandboxRequest) -> tuple[SandboxReply, bytes]:
    """Run one query; return the reply and its rows as an Arrow stream, within the limits of the request."""
    connection = connect(Path(request.store), request.runs)
    expired = threading.Event()

    def interrupt() -> None:
        expired.set()
        connection.interrupt()

    timer = threading.Timer(request.seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        check(connection, request.sql)
        relation = connection.sql(request.sql, params=dict(request.parameters) or None)
        if relation is None:
            raise SqlError("the query gives no rows", field="sql", fix="send one SELECT")
        return _collect(relation.to_arrow_reader(BATCH_ROWS), request)
    except (duckdb.Error, RuntimeError) as error:
        if expired.is_set():
            return SandboxReply(error=f"no result within {request.seconds:g} s", timed_out=True), b""
        return SandboxReply(error=_first_line(error), fix="the tables are described in docs/tables.md"), b""
    except MemoryError:
        return SandboxReply(error="the query exceeds its memory limit", fix="select fewer rows or columns"), b""
    except TegakariError as error:
        return SandboxReply(error=error.message, fix=error.fix), b""
    finally:
        timer.cancel()


def _first_line(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0][:2000]


def _collect(reader: pa.RecordBatchReader, request: SandboxRequest) -> tuple[SandboxReply, bytes]:
    schema = _distinct(reader.schema)
    sink = pa.BufferOutputStream()
    rows = size = 0
    truncated = False
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in reader:
            part = batch.slice(0, request.rows - rows)
            size += part.nbytes
            truncated = part.num_rows < batch.num_rows or size > request.bytes
            if size > request.bytes:
                break
            writer.write_batch(pa.RecordBatch.from_arrays(part.columns, schema=schema))
            rows += part.num_rows
            if truncated:
                break
    return SandboxReply(truncated=truncated), sink.getvalue().to_pybytes()


def _distinct(schema: pa.Schema) -> pa.Schema:
    """Number columns that share a name, since an object of JSON cannot hold both."""
    counts: dict[str, int] = {}
    fields = []
    for field in schema:
        count = counts[field.name] = counts.get(field.name, 0) + 1
        fields.append(field if count == 1 else field.with_name(f"{field.name}_{count}"))
    return pa.schema(fields)


def main() -> None:
    """Read one request from standard input, write reply and rows to standard output, and end."""
    os.closerange(3, 4096)  # sockets inherited from the service
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    pa.set_cpu_count(THREADS)
    pa.set_io_thread_count(THREADS)
    os.chdir("/")
    line = sys.stdin.buffer.readline()
    if not line:
        return  # a spare process that is no longer needed
    reply, body = execute(msgspec.json.decode(line, type=SandboxRequest))
    sys.stdout.buffer.write(msgspec.json.encode(reply) + b"\n" + body)
    sys.stdout.buffer.flush()
    os._exit(0)  # without waiting for the threads of an interrupted query


if __name__ == "__main__":
    main()
