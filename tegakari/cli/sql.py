"""`tegakari sql`: SQL over all runs of a store."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tegakari.cli.options import StoreOption, is_address, open_source, store_name
from tegakari.cli.output import err, out, print_table
from tegakari.extras import extras_named
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
    """Query the tables of all runs in SQL. Each table of docs/tables.md is a view with a `run` column in front.

    Example: [bold]tegakari sql "SELECT run, label, recall FROM labels ORDER BY recall LIMIT 5"[/]
    """
    text = sys.stdin.read() if query == "-" else query
    chosen = SqlFormat.json if json else form or (_format_of(output) if output else None)
    if chosen is None:
        table = open_source(store).sql_table(text, runs=run)
        rows = table.slice(0, SHOWN_ROWS)
        print_table("", table.column_names, zip(*(column.to_pylist() for column in rows.columns), strict=True))
        if table.num_rows > SHOWN_ROWS:
            err.print(f"{SHOWN_ROWS:,} of {table.num_rows:,} rows; -o FILE writes all")
        return
    with extras_named():
        from tegakari.store.disk.publish import published_names
        from tegakari.store.sql.query import run_query, write_rows

    name = store_name(store)
    if is_address(name):
        reader = open_source(store).sql_table(text, runs=run).to_reader()
    else:  # batch by batch: a result may be larger than memory
        reader = run_query(Path(name), run or published_names(Path(name)), text)
    if output is None:
        write_rows(sys.stdout.buffer, reader, chosen)
        return
    with output.open("wb") as sink:
        count = write_rows(sink, reader, chosen)
    out.print(f"{count:,} rows in {output}")


def _format_of(file: Path) -> SqlFormat:
    try:
        return SqlFormat(file.suffix.lstrip("."))
    except ValueError:
        formats = ", ".join(SqlFormat)
        raise ConfigError(
            f"the name {file.name} has no suffix of a format", field="--output", fix=f"give --format: {formats}"
        ) from None
