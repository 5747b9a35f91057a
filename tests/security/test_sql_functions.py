"""SQL of others: every function and view of the installed DuckDB is either harmless or refused before it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from tegakari.schemas.errors import SqlError
from tegakari.store.sql import functions
from tegakari.store.sql.sandbox import SandboxRequest, check, connect, execute
from tegakari.store.sql.views import VIEWS
from tests.support.service import RUN

SECRET = "the-content-of-a-file-outside"


@pytest.fixture(scope="module")
def connection(store: Path) -> duckdb.DuckDBPyConnection:
    """A connection as the sandbox has it."""
    return connect(store, [RUN])


def installed_functions() -> set[tuple[str, str]]:
    """(name, kind) of the functions of the installed DuckDB."""
    rows = duckdb.connect().sql("SELECT DISTINCT lower(function_name), function_type FROM duckdb_functions()")
    return set(rows.fetchall())


def is_refused(connection: duckdb.DuckDBPyConnection, sql: str) -> bool:
    try:
        check(connection, sql)
    except SqlError:
        return True
    except duckdb.ParserException:  # it cannot be a call
        return True
    return False


@pytest.mark.parametrize("kind", ["scalar", "aggregate", "macro", "window"])
def test_every_other_function_is_refused_in_an_expression(connection: duckdb.DuckDBPyConnection, kind: str):
    names = {name for name, kind_ in installed_functions() if kind_ == kind}
    others = names - functions.FUNCTIONS
    assert others or kind == "window"
    for name in others:
        for call in (f'SELECT "{name}"()', f'SELECT "{name.upper()}"(1) OVER ()', f'SELECT system.main."{name}"(1)'):
            assert is_refused(connection, call), call
        assert is_refused(connection, f'FROM labels WHERE list_transform([1], lambda x: "{name}"(x)) IS NULL')


@pytest.mark.parametrize("kind", ["table", "table_macro", "pragma"])
def test_every_other_function_is_refused_in_from(connection: duckdb.DuckDBPyConnection, kind: str):
    others = {name for name, kind_ in installed_functions() if kind_ == kind} - functions.TABLE_FUNCTIONS
    assert others
    for name in others:
        for query in (
            f'FROM "{name}"()',
            f"""FROM "{name}"('labels')""",
            f"""SELECT (SELECT count(*) FROM "{name}"('labels', label))""",
            f"""WITH x AS (FROM system.main."{name}"('x')) FROM x""",
            f'CALL "{name}"()',
            f"PRAGMA {name}",
        ):
            assert is_refused(connection, query), query


def test_every_view_of_duckdb_is_refused(connection: duckdb.DuckDBPyConnection):
    views = connection.sql(
        "SELECT database_name, schema_name, view_name FROM duckdb_views()"
        " WHERE internal OR starts_with(view_name, 'activations_')"
    ).fetchall()
    assert len(views) > 40
    for database, schema, view in views:
        for name in (view, view.upper(), f"{schema}.{view}", f"{database}.{schema}.{view}"):
            for query in (
                f"FROM {name}",
                f"DESCRIBE {name}",
                f"SUMMARIZE {name}",
                f"SHOW {name}",
                f"WITH x AS (FROM {name}) FROM x",
                f"FROM labels WHERE EXISTS (FROM {name})",
                f"WITH {view} AS (SELECT 1), x AS (FROM {view}) FROM {name}",
            ):
                if query.lower() not in (
                    "show tables",
                    "describe tables",
                    "summarize tables",
                ):  # they name the tables of runs
                    assert is_refused(connection, query), query


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM (WITH pg_settings AS (SELECT 1) FROM pg_settings), pg_settings",
        "FROM histogram_values('pg_settings', setting)",
        "FROM histogram('pg_settings', setting)",
        "FROM run_0.labels",
        "FROM run_0.main.labels",
        "FROM temp.labels",
        "SHOW DATABASES",
        "SHOW ALL TABLES",
        "SHOW run_0.labels",
        "FROM (SHOW TABLES)",
        "SELECT list_aggregate(['a'], 'any_value')",
        "SELECT list_aggr(['a'], $name)",
        "SELECT run_0.main.lower('A')",
        "SELECT run_0.lower(label) FROM labels",
        "SELECT getvariable('x')",
        "SELECT current_setting('TimeZone')",
        "SELECT 'x'.current_setting()",
        "SELECT label.current_setting() FROM labels",
        "FROM labels ORDER BY current_setting('TimeZone')",
        "FROM labels LIMIT (SELECT current_setting('threads'))",
        "FROM labels QUALIFY row_number() OVER (PARTITION BY current_setting('TimeZone')) = 1",
        "SELECT sum(f1) FILTER (WHERE current_setting('TimeZone') = 'UTC') FROM labels",
        "FROM labels GROUP BY ALL HAVING current_setting('TimeZone') = 'x'",
        "SELECT CASE WHEN current_setting('TimeZone') = 'x' THEN 1 END",
        "VALUES (current_setting('TimeZone'))",
        "SELECT {'a': [current_setting('TimeZone')]}",
        "FROM labels PIVOT (max(current_setting('TimeZone')) FOR label IN ('x'))",
        "SELECT * REPLACE (current_setting('TimeZone') AS label) FROM labels",
        "SELECT COLUMNS(c -> current_setting('TimeZone') = 'x') FROM labels",
        "FROM labels a JOIN labels b ON current_setting('TimeZone') = a.label",
        "FROM range((SELECT current_setting('threads')::INT))",
    ],
)
def test_calls_and_tables_are_found_wherever_they_stand(store: Path, sql: str):
    request = SandboxRequest(store=str(store), runs=[RUN], sql=sql, parameters={}, rows=10, bytes=2**20, seconds=5)
    reply, rows = execute(request)
    assert reply.error
    assert (
        "not allowed" in reply.error
        or "is not a table" in reply.error
        or "SHOW" in reply.error
        or ("cannot name" in reply.error)
    )
    assert rows == b""


def test_show_tables_names_the_tables_of_runs_alone(store: Path):
    import pyarrow as pa

    request = SandboxRequest(
        store=str(store), runs=[RUN], sql="SHOW TABLES", parameters={}, rows=99, bytes=2**20, seconds=5
    )
    reply, rows = execute(request)
    assert reply.error is None
    assert pa.ipc.open_stream(rows).read_all()["name"].to_pylist() == list(VIEWS)


def test_harmless_macros_call_harmless_functions(connection: duckdb.DuckDBPyConnection):
    rows = connection.sql(
        "SELECT function_name, macro_definition FROM duckdb_functions() WHERE function_type = 'macro'"
    ).fetchall()
    definitions = [(name, definition) for name, definition in rows if name in functions.MACROS]
    assert {name for name, _ in definitions} == functions.MACROS
    for name, definition in definitions:
        body = definition.replace("list_aggr(", "concat(")  # it gets the name of an aggregate, in quotes
        assert check(connection, f"SELECT {body}"), name


ARGUMENTS = (
    "",
    "'{file}'",
    "'{file}', 1",
    "['{file}']",
    "['{file}'], 1",
    "'runs', name",
    "'SELECT * FROM read_text(''{file}'')'",
    "'pg_settings'",
    "'pg_settings', 'setting'",
    "'{file}', '{file}'",
    "1",
    "1, 2",
    "1.5, 2.5, 3",
    "[1, 2], 1",
    "[3.5, 1.5]",
    "[1.5], [2.5]",
    "[1, 2], lambda x: x",
    "'a', 'b', 'c'",
    "DATE '2026-01-02'",
    "'day', DATE '2026-01-02'",
    "'day', DATE '2026-01-02', DATE '2026-01-05'",
    "MAP {{'{file}': 1}}, '{file}'",
    "{{'a': '{file}'}}",
    "'{{\"a\": \"{file}\"}}'::JSON, '$.a'",
    "'{file}'::BLOB",
)
"""Arguments with which at least one call of most functions succeeds; `file` is a path outside of the store."""


def test_no_permitted_function_reads_a_file_or_a_setting(tmp_path: Path):
    """Each alone, without the other barriers: on a connection that may open any file."""
    file = tmp_path / "outside.txt"
    file.write_text(SECRET)
    connection = duckdb.connect()
    connection.execute("SET VARIABLE secret = 'SECRET-VARIABLE'")
    connection.execute("SET search_path = 'main'")
    connection.execute("SET http_proxy_username = 'SECRET-SETTING'")
    called = set()
    for query, name in permitted_calls(str(file)):
        try:
            rows = connection.sql(f"SELECT * FROM ({query}) LIMIT 100").fetchall()
        except (duckdb.Error, OverflowError, ValueError):
            continue
        called.add(name)
        text = repr(rows)
        assert SECRET not in text, query
        assert "SECRET-" not in text, query
        assert str(Path.cwd()) not in text, query
    words = {name for name in functions.FUNCTIONS | functions.TABLE_FUNCTIONS if name[0].isalpha()}
    assert len(called) > 0.8 * len(words), sorted(words - called)


def permitted_calls(file: str) -> Iterator[tuple[str, str]]:
    for arguments in ARGUMENTS:
        values = arguments.format(file=file)
        for name in sorted(functions.FUNCTIONS):
            if name[0].isalpha():
                yield f'SELECT "{name}"({values})', name
        for name in sorted(functions.TABLE_FUNCTIONS):
            yield f'FROM "{name}"({values})', name
        for name in sorted(functions.WINDOW_FUNCTIONS):
            yield f'SELECT "{name}"({values}) OVER ()', name
