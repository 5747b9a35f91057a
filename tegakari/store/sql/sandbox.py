"""SQL of strangers over the tables of runs: the program of a process that answers one query and ends.

Several walls stand one behind the other, so that a hole in one is not a way out:

- the process: no files of its own (their size is limited to 0), bounded memory, hardly an environment, the first that
  the system ends when memory is short, and killed by its parent when it takes too long;
- DuckDB: runs attached read-only, no file system, no extensions, no variables of the program, the configuration locked;
- the query: one SELECT, calling only table functions that are known to be harmless. DuckDB's own list has some that
  take raw addresses or SQL in strings.

Activations lie in Parquet files; DuckDB is given them through Arrow and needs no file system for them either.
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
"""for DuckDB"""
ADDRESS_SPACE = 6 * 2**30
"""bytes for the process; what is reserved counts, used or not."""
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
"""Table functions that may be called; all others read files, take addresses or SQL, or tell of the machine."""

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
"""Scalar functions that plan SQL in strings, take the raw state of others, write, or tell of the machine."""

REFUSED_VIEWS = frozenset(("duckdb_databases", "duckdb_logs", "pragma_database_list", "pg_settings", "duckdb_secrets"))
"""Views of DuckDB that tell of the machine."""


class SandboxRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the process reads from its standard input."""

    store: str
    runs: list[str]
    sql: str
    parameters: dict[str, str | int | float | bool | None]
    rows: int
    """given at most"""
    bytes: int
    """of Arrow, given at most"""
    seconds: float


class SandboxReply(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of the process's standard output; unless there is an error, an Arrow stream follows."""

    error: str | None = None
    fix: str | None = None
    timed_out: bool = False
    truncated: bool = False


def connect(store: Path, runs: list[str]) -> duckdb.DuckDBPyConnection:
    """A locked connection with the views of these runs.

    It has an instance of its own: instances are shared by path within a process, and this one is locked for good.

    Raises:
        NotFoundError, StoreError: a run is not there or damaged.
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
    connection.execute("SET allowed_paths = []")  # attaching has put the files of the runs on it
    connection.execute("SET enable_external_access = false")
    connection.execute("SET disabled_filesystems = 'LocalFileSystem'")
    connection.execute("SET lock_configuration = true")
    return connection


def check(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse everything but one SELECT that calls nothing it may not.

    Raises:
        SqlError: saying what.
    """
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise SqlError(f"{len(statements)} statements", field="sql", fix="send one SELECT")
    try:
        kind = statements[0].type.name
    except ValueError:  # DuckDB's Python package does not know all of DuckDB's kinds
        kind = "this kind of statement"
    if kind != "SELECT":
        raise SqlError(f"{kind} is not allowed", field="sql", fix="send one SELECT")
    serialized = connection.sql("SELECT json_serialize_sql($sql::VARCHAR)", params={"sql": sql}).to_arrow_table()
    tree = msgspec.json.decode(serialized.column(0)[0].as_py())
    if tree["error"]:
        raise SqlError(f"not a plain SELECT: {tree.get('error_message', 'it cannot be read')}", field="sql")
    for node in _nodes(tree):
        name = str(node.get("function_name", "")).lower()
        if node.get("type") == "TABLE_FUNCTION":
            called = str(node["function"]["function_name"]).lower()
            if called not in TABLE_FUNCTIONS:
                allowed = ", ".join(sorted(TABLE_FUNCTIONS))
                raise SqlError(f"{called}() is not allowed here", field="sql", fix=f"table functions: {allowed}")
        elif name in REFUSED_FUNCTIONS or name.startswith("__"):
            raise SqlError(f"{name}() is not allowed", field="sql", fix="leave it out")
        elif str(node.get("table_name", "")).lower() in REFUSED_VIEWS:
            raise SqlError(f"{node['table_name']} may not be read", field="sql", fix="SHOW TABLES lists what may be")


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    """Every object in a JSON document; without recursion, for a query can be nested deeply."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def answer(request: SandboxRequest) -> tuple[SandboxReply, bytes]:
    """Run one query; the Arrow stream holds at most so many rows and bytes as were asked for."""
    connection = connect(Path(request.store), request.runs)
    late = threading.Event()

    def interrupt() -> None:
        late.set()
        connection.interrupt()

    timer = threading.Timer(request.seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        check(connection, request.sql)
        found = connection.sql(request.sql, params=dict(request.parameters) or None)
        if found is None:
            raise SqlError("no rows come of it", field="sql", fix="send one SELECT")
        return _collect(found.to_arrow_reader(BATCH_ROWS), request)
    except (duckdb.Error, RuntimeError) as error:
        if late.is_set():
            return SandboxReply(error=f"no answer within {request.seconds:g} s", timed_out=True), b""
        return SandboxReply(error=_in_words(error), fix="the tables are described in docs/tables.md"), b""
    except MemoryError:
        return SandboxReply(error="the query needs more memory than it may have", fix="ask for less at a time"), b""
    except TegakariError as error:
        return SandboxReply(error=error.message, fix=error.fix), b""
    finally:
        timer.cancel()


def _in_words(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0][:2000]


def _collect(reader: pa.RecordBatchReader, request: SandboxRequest) -> tuple[SandboxReply, bytes]:
    schema = _distinct(reader.schema)
    sink = pa.BufferOutputStream()
    rows = size = 0
    truncated = False
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in reader:
            taken = batch.slice(0, request.rows - rows)
            size += taken.nbytes
            truncated = taken.num_rows < batch.num_rows or size > request.bytes
            if size > request.bytes:
                break
            writer.write_batch(pa.RecordBatch.from_arrays(taken.columns, schema=schema))
            rows += taken.num_rows
            if truncated:
                break
    return SandboxReply(truncated=truncated), sink.getvalue().to_pybytes()


def _distinct(schema: pa.Schema) -> pa.Schema:
    """Number the columns that share a name: rows of JSON cannot hold both."""
    seen: dict[str, int] = {}
    fields = []
    for field in schema:
        count = seen[field.name] = seen.get(field.name, 0) + 1
        fields.append(field if count == 1 else field.with_name(f"{field.name}_{count}"))
    return pa.schema(fields)


def main() -> None:
    """Read one request from standard input, answer it on standard output, and end."""
    os.closerange(3, 4096)  # the service's sockets are no business of a query
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
        return  # a process that was held ready and is not needed
    reply, body = answer(msgspec.json.decode(line, type=SandboxRequest))
    sys.stdout.buffer.write(msgspec.json.encode(reply) + b"\n" + body)
    sys.stdout.buffer.flush()
    os._exit(0)  # threads of a query that was interrupted need not come to an end first


if __name__ == "__main__":
    main()
