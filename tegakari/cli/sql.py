"""`tegakari sql`: SQL over all runs of a store."""

from __future__ import annotations

import codecs
import io
import sys
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any, cast

import msgspec
import typer

from tegakari.cli.options import (
    BomOption,
    CsvOption,
    JsonOption,
    SpreadsheetOption,
    StoreOption,
    complete_run,
    is_address,
    refuse_bucket,
    store_name,
)
from tegakari.cli.output import err, print_cut, print_json, print_table, print_text, printable
from tegakari.cli.output_paths import output_file
from tegakari.extras import extras_named
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.sql import MAX_ROWS, SqlColumn

SHOWN_ROWS = 1000
"""Rows of a table on the screen; files and JSON get all of them."""


class SqlFormat(StrEnum):
    """How rows are written."""

    json = "json"
    csv = "csv"
    parquet = "parquet"
    xlsx = "xlsx"
    arrow = "arrow"


def sql(
    query: Annotated[str, typer.Argument(help="A query; - reads it from standard input.")],
    runs: Annotated[
        list[str] | None,
        typer.Option("--run", "-r", help="Only this run; repeatable. Default: all.", autocompletion=complete_run),
    ] = None,
    form: Annotated[
        SqlFormat | None, typer.Option("--format", help="Default: the file's suffix, or a table on the screen.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: the screen.", callback=output_file)
    ] = None,
    csv: CsvOption = None,
    json: JsonOption = False,
    spreadsheet: SpreadsheetOption = False,
    bom: BomOption = False,
    store: StoreOption = None,
) -> None:
    """Query the tables of all runs in SQL. Each table of docs/tables.md is a view with a `run` column in front.

    Example: [bold]tegakari sql "SELECT run, label, recall FROM labels ORDER BY recall LIMIT 5"[/]
    """
    text = sys.stdin.read() if query == "-" else query
    if csv:
        form, output = SqlFormat.xlsx if csv.suffix.lower() == ".xlsx" else SqlFormat.csv, csv
    chosen = form or (_format_of(output) if output else None)
    name = store_name(store)
    if is_address(name) and (json or chosen is None):  # needs no Arrow on this machine
        _print_remote(name, text, runs, json=json)
        return
    refuse_bucket(name)
    with extras_named("store"):
        from tegakari.store import Store
        from tegakari.store.export.formats import check_bom
        from tegakari.store.export.spreadsheets import for_spreadsheets
        from tegakari.store.sql.query import run_query, write_rows

    if is_address(name):
        from tegakari.client import Client

        reader = Client(name).sql_table(text, runs=runs).to_reader()
    else:  # batch by batch: a result may be larger than memory
        opened = Store(name)
        names = [opened.run(run).name for run in runs] if runs else [run.name for run in opened.runs()]
        reader = run_query(Path(name), names, text)
    if bom:
        check_bom(chosen)
    if spreadsheet:
        reader = for_spreadsheets(reader, chosen)
    if json:
        columns = [SqlColumn(name=field.name, type=str(field.type)) for field in reader.schema]
        sink = _standard_output(SqlFormat.json)
        sink.write(b'{"columns":' + msgspec.json.encode(columns) + b',"items":')
        write_rows(sink, reader, SqlFormat.json)
        sink.write(b',"next":null,"truncated":false}\n')
    elif chosen is None:
        table = reader.read_all()
        rows = zip(*(column.to_pylist() for column in table.slice(0, SHOWN_ROWS).columns), strict=True)
        print_table("", table.column_names, rows)
        if table.num_rows > SHOWN_ROWS:
            print_cut(SHOWN_ROWS, table.num_rows, "-o FILE writes all, --json prints all")
    elif output is None:
        write_rows(_standard_output(chosen), reader, chosen, bom=bom)
    else:
        with output.open("wb") as sink:
            count = write_rows(sink, reader, chosen, bom=bom)
        print_text(f"{count:,} rows in {output}", console=err)


def _standard_output(file_format: SqlFormat) -> IO[bytes]:
    """Where rows go without `--output`: unchanged into a pipe, without control characters to a terminal."""
    if not sys.stdout.isatty():
        return sys.stdout.buffer
    if file_format in (SqlFormat.parquet, SqlFormat.arrow, SqlFormat.xlsx):
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
        print_json(result)
    else:
        names = [column.name for column in result.columns]
        print_table("", names, [[row[name] for name in names] for row in result.items])
    if result.truncated and not json:
        print_cut(len(result.items), None, "-o FILE writes all")


def _format_of(file: Path) -> SqlFormat:
    try:
        return SqlFormat(file.suffix.lstrip("."))
    except ValueError:
        formats = ", ".join(SqlFormat)
        raise ConfigError(
            f"the name {file.name} has no suffix of a format", field="--output", fix=f"give --format: {formats}"
        ) from None
