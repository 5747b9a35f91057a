"""Attach `index.duckdb` of a run, which someone else may have made, and refuse all but the tables that a run has."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import duckdb

from tegakari.schemas.errors import StoreError
from tegakari.schemas.tables import TABLES, Table
from tegakari.store.column_types import DUCKDB_TYPES
from tegakari.store.disk.layout import DATABASE


def table_definition(table: Table) -> str:
    """The statement that creates a table of a run."""
    columns = ", ".join(f"{column.name} {DUCKDB_TYPES[column.type]}" for column in table.columns)
    return f"CREATE TABLE {table.name} ({columns})"


def attach_run(connection: duckdb.DuckDBPyConnection, run: Path, name: str) -> None:
    """Attach the database of a run, read-only.

    A view could read any file of this machine when it is queried, a generated column could call any function, and a
    table with other columns would give wrong results. Macros stay where they are: no name resolves to them as long as
    the database is not on the search path.

    Args:
        connection: to attach it to.
        run: directory of the run.
        name: of the database in the connection.

    Raises:
        duckdb.Error: the file is missing or damaged.
        StoreError: the database has other tables than a run, or views.
    """
    path = str(run / DATABASE).replace("'", "''")
    connection.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
    tables = _definitions_in(connection, name)
    if tables != table_definitions():
        names = sorted(set(tables) ^ set(table_definitions())) or sorted(
            table for table, definition in tables.items() if definition != table_definitions()[table]
        )
        raise _refusal(run, f"table {names[0]!r} is not that of a run")
    if views := _entries(connection, "view_name", "duckdb_views()", name):
        raise _refusal(run, f"{views[0][0]!r} is a view")
    if schemas := _entries(connection, "schema_name", "duckdb_schemas()", name):
        raise _refusal(run, f"{schemas[0][0]!r} is a schema")


def _entries(connection: duckdb.DuckDBPyConnection, columns: str, catalog: str, name: str) -> list[tuple[str, ...]]:
    sql = f"SELECT {columns} FROM system.main.{catalog} WHERE database_name = $name AND NOT internal ORDER BY ALL"
    return connection.sql(sql, params={"name": name}).fetchall()


@cache
def table_definitions() -> dict[str, str]:
    """Name -> definition of the tables of a run, as this version of DuckDB spells it."""
    with duckdb.connect() as connection:
        for table in TABLES:
            connection.execute(table_definition(table))
        return _definitions_in(connection, "memory")


def _definitions_in(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, str]:
    rows = _entries(connection, "table_name, sql", "duckdb_tables()", name)
    return {row[0]: row[1] for row in rows}


def _refusal(run: Path, reason: str) -> StoreError:
    return StoreError(
        f"{DATABASE} of run {run.name} is refused: {reason}",
        field="run",
        fix="delete the run, and index it again or get it from its author",
    )
