"""`tegakari sql`: SQL over all runs of a store."""

from __future__ import annotations

import codecs
import io
import sys
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any, cast

import typer

from tegakari.cli.options import SpreadsheetOption, StoreOption, is_address, store_name
from tegakari.cli.output import err, out, print_json, print_table, printable
from tegakari.cli.output_paths import output_file
from tegakari.extras import extras_named
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.sql import MAX_ROWS

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
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: the screen.", callback=output_file)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    spreadsheet: SpreadsheetOption = False,
    store: StoreOption = None,
) -> None:
    """Query the tables of all runs in SQL. Each table of docs/tables.md is a view with a `run` column in front.

    Example: [bold]tegakari sql "SELECT run, label, recall FROM labels ORDER BY recall LIMIT 5"[/]
    """
    text = sys.stdin.read() if query == "-" else query
    chosen = SqlFormat.json if json else form or (_format_of(output) if output else None)
    name = store_name(store)
    if is_address(name) and chosen in (None, SqlFormat.json) and output is None:  # needs no Arrow on this machine
        _print_remote(name, text, run, json=chosen is not None)
        return
    with extras_named("store"):
        from tegakari.store import Store
        from tegakari.store.export.formats import for_spreadsheets
        from tegakari.store.sql.query import run_query, write_rows

    if is_address(name):
        from tegakari.client import Client

        reader = Client(name).sql_table(text, runs=run).to_reader()
    else:  # batch by batch: a result may be larger than memory
        reader = run_query(Path(name), run or [opened.name for opened in Store(name).runs()], text)
    if spreadsheet:
        reader = for_spreadsheets(reader, chosen)
    if chosen is None:
        table = reader.read_all()
        rows = zip(*(column.to_pylist() for column in table.slice(0, SHOWN_ROWS).columns), strict=True)
        print_table("", table.column_names, rows)
        if table.num_rows > SHOWN_ROWS:
            err.print(f"{SHOWN_ROWS:,} of {table.num_rows:,} rows; -o FILE writes all")
    elif output is None:
        write_rows(_standard_output(chosen), reader, chosen)
    else:
        with output.open("wb") as sink:
            count = write_rows(sink, reader, chosen)
        out.print(f"{count:,} rows in {output}")


def _standard_output(file_format: SqlFormat) -> IO[bytes]:
    """Where rows go without `--output`: unchanged into a pipe, without control characters to a terminal."""
    if not sys.stdout.isatty():
        return sys.stdout.buffer
    if file_format in (SqlFormat.parquet, SqlFormat.arrow):
        raise ConfigError(
            f"{file_format} cannot be shown on a terminal", field="--format", fix="give -o FILE, or pipe the output"
        )
    return cast("IO[bytes]", _TerminalSink())


class _TerminalSink(io.RawIOBase):
    """Writes text of data to a terminal."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        sys.stdout.write(printable(self._decoder.decode(bytes(data))))
        return len(data)


def _print_remote(address: str, query: str, runs: list[str] | None, *, json: bool) -> None:
    from tegakari.client import Client

    result = Client(address).sql(query, runs=runs, limit=MAX_ROWS if json else SHOWN_ROWS)
    if json:
        print_json(result.items)
    else:
        names = [column.name for column in result.columns]
        print_table("", names, [[row[name] for name in names] for row in result.items])
    if result.truncated:
        err.print(f"the first {len(result.items):,} rows; the result has more")


def _format_of(file: Path) -> SqlFormat:
    try:
        return SqlFormat(file.suffix.lstrip("."))
    except ValueError:
        formats = ", ".join(SqlFormat)
        raise ConfigError(
            f"the name {file.name} has no suffix of a format", field="--output", fix=f"give --format: {formats}"
        ) from None
