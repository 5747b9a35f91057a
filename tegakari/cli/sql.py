"""`tegakari sql`: SQL over all runs of a store."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tegakari.cli.options import StoreOption, store_directory
from tegakari.cli.output import err, out, print_table
from tegakari.schemas.errors import ConfigError

SHOWN_ROWS = 1000
"""Rows of a table on the screen; files and JSON get all of them."""


class SqlFormat(StrEnum):
    """How rows are written."""

    json = "json"
    csv = "csv"
    parquet = "parquet"
    arrow = "arrow"


def sql(
    query: Annotated[str, typer.Argument(help="A query; - reads it from standard input.")],
    run: Annotated[list[str] | None, typer.Option("--run", "-r", help="Only these runs; default: all.")] = None,
    form: Annotated[
        SqlFormat | None, typer.Option("--format", help="Default: the file's suffix, or a table on the screen.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default: the screen.")] = None,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    store: StoreOption = None,
) -> None:
    """Ask the tables of all runs in SQL. Each table of docs/tables.md is a view with a run column in front.

    Example: [bold]tegakari sql "SELECT run, label, recall FROM labels ORDER BY recall LIMIT 5"[/]
    """
    from tegakari.store import Store
    from tegakari.store.sql.query import ask, write_rows

    directory = store_directory(store)
    names = list(run) if run else Store(directory).names()
    text = sys.stdin.read() if query == "-" else query
    rows = ask(directory, names, text)
    if output is not None:
        chosen = SqlFormat.json if json else form or _format_of(output)
        with output.open("wb") as sink:
            written = write_rows(sink, rows, chosen)
        out.print(f"{written:,} rows in {output}")
    elif json or form:
        write_rows(sys.stdout.buffer, rows, SqlFormat.json if json else form or SqlFormat.csv)
    else:
        table = rows.read_all()
        shown = table.slice(0, SHOWN_ROWS)
        print_table("", table.column_names, zip(*(column.to_pylist() for column in shown.columns), strict=True))
        if table.num_rows > SHOWN_ROWS:
            err.print(f"{SHOWN_ROWS:,} of {table.num_rows:,} rows; -o FILE writes all")


def _format_of(file: Path) -> SqlFormat:
    try:
        return SqlFormat(file.suffix.lstrip("."))
    except ValueError:
        known = ", ".join(SqlFormat)
        raise ConfigError(f"{file.name} says no format", field="--output", fix=f"give --format: {known}") from None
