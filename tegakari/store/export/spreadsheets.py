"""Tables that spreadsheets open: XLSX, and CSV within their limits whose texts they do not run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from io import BytesIO
from tempfile import TemporaryDirectory
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from tegakari.schemas.errors import StoreError
from tegakari.store.export.arrow import flat

MAX_ROWS = 1_048_576
"""Rows of a sheet, the names of the columns included."""

MAX_COLUMNS = 16_384
MAX_CELL = 32_767
"""UTF-16 code units of a text; a character beyond the basic plane has two."""

MAX_INTEGER = 10**15
"""Spreadsheets have 15 digits: larger integers are written as texts."""

_FORMULA = "^[=+\\-@\t\r]"
"""Start of a text that spreadsheets take for a formula, which runs when the file is opened."""

_CREATED = datetime(2000, 1, 1)


class Limits:
    """Checks that rows fit into one sheet, whose program would cut them without a word."""

    def __init__(self, schema: pa.Schema) -> None:
        """Start before the first row.

        Raises:
            StoreError: there are more columns than a sheet has.
        """
        if len(schema) > MAX_COLUMNS:
            raise StoreError(
                f"{len(schema):,} columns; a spreadsheet has {MAX_COLUMNS:,}",
                field="--format",
                fix="select fewer columns, or write Parquet",
            )
        self._rows = 1

    def check(self, batch: pa.RecordBatch) -> None:
        """Check the next rows; nested columns are written as JSON, which is checked as a text.

        Raises:
            StoreError: a row or a text is too much; names it.
        """
        before = self._rows
        self._rows += batch.num_rows
        if self._rows > MAX_ROWS:
            raise StoreError(
                f"more than {MAX_ROWS - 1:,} rows; a spreadsheet has {MAX_ROWS:,}, the names of the columns included",
                field="--format",
                fix="export another table with --table, select fewer rows with `tegakari sql`, or write Parquet",
            )
        for name, column in zip(batch.schema.names, flat(batch).columns, strict=True):
            if not _is_text(column.type):
                continue
            lengths = pc.call_function("utf8_length", [column]).fill_null(0).to_numpy()
            for row in (2 * lengths > MAX_CELL).nonzero()[0].tolist():
                units = len(column[row].as_py().encode("utf-16-le")) // 2
                if units > MAX_CELL:
                    raise StoreError(
                        f"column {name}, row {before + row:,}: a text of {units:,} characters; "
                        f"a spreadsheet's cell has {MAX_CELL:,}",
                        field="--format",
                        fix=f"write CSV or Parquet, or select `left({name}, 16000)` with `tegakari sql`",
                    )


def for_spreadsheets(rows: pa.RecordBatchReader, file_format: str | None) -> pa.RecordBatchReader:
    """Rows whose texts, names of columns included, a spreadsheet shows instead of running them.

    In CSV, each text that starts like a formula gets an apostrophe in front. Other programs read the apostrophe as a
    part of the text, so that this is not the default. Rows beyond the limits of a spreadsheet raise a StoreError when
    they are read. XLSX says of each cell that it is a text, and is unchanged.

    Raises:
        StoreError: the format is another one; spreadsheets do not run the texts of the others.
    """
    if file_format == "xlsx":
        return rows
    if file_format != "csv":
        raise StoreError(
            "only CSV can hold formulas", field="--spreadsheet", fix="leave it out, or use --format csv or xlsx"
        )
    names = [f"'{name}" if re.match(_FORMULA, name) else name for name in rows.schema.names]
    schema = pa.schema([field.with_name(name) for field, name in zip(rows.schema, names, strict=True)])
    return pa.RecordBatchReader.from_batches(schema, _shown_batches(rows, schema))


def _shown_batches(rows: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    limits = Limits(rows.schema)
    for batch in rows:
        limits.check(batch)
        yield pa.RecordBatch.from_arrays([_shown(column) for column in batch.columns], schema=schema)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _shown(column: pa.Array) -> pa.Array:
    if not _is_text(column.type):
        return column
    formulas = pc.call_function("match_substring_regex", [column], pc.MatchSubstringOptions(_FORMULA))
    nothing = pa.scalar("", column.type)
    marked = pc.call_function("binary_join_element_wise", [pa.scalar("'", column.type), column, nothing])
    return pc.call_function("if_else", [formulas, marked, column])


class _Sheet:
    """The sheet of a workbook: names of the columns, then rows."""

    def __init__(self, workbook: Any, schema: pa.Schema) -> None:
        self._limits = Limits(schema)
        self._sheet = workbook.add_worksheet()
        # Such a text stays one when someone edits its cell.
        self._quoted = workbook.add_format({"quote_prefix": True})
        self._sheet.freeze_panes(1, 0)
        bold = workbook.add_format({"bold": True})
        for number, name in enumerate(schema.names):
            self._sheet.write_string(0, number, name, bold)
        self._row = 1

    def write_batch(self, batch: pa.RecordBatch, /) -> None:
        self._limits.check(batch)
        for cells in zip(*(column.to_pylist() for column in flat(batch).columns), strict=True):
            for number, cell in enumerate(cells):
                self._write(number, cell)
            self._row += 1

    def _write(self, number: int, cell: Any) -> None:
        """Write a cell: numbers as numbers, true and false, all else as text, and nothing for null."""
        match cell:
            case None:
                pass
            case bool():
                self._sheet.write_boolean(self._row, number, cell)
            case int() | float() | Decimal() if _is_number(cell):
                self._sheet.write_number(self._row, number, cell)
            case _:
                text = str(cell)
                formula = re.match(_FORMULA, text)
                self._sheet.write_string(self._row, number, text, self._quoted if formula else None)


def _is_number(value: float | Decimal) -> bool:
    """Whether a cell of a spreadsheet can hold a number: it is finite, and its digits are not cut."""
    if isinstance(value, int) or (isinstance(value, Decimal) and value == value.to_integral_value()):
        return abs(value) <= MAX_INTEGER
    return math.isfinite(value)


@contextmanager
def xlsx(sink: IO[bytes], schema: pa.Schema) -> Iterator[_Sheet]:
    """Writer of an XLSX file with one sheet; rows wait in a temporary file.

    Raises:
        StoreError: the rows are beyond the limits of a spreadsheet.
    """
    from xlsxwriter import Workbook

    with TemporaryDirectory() as directory:
        workbook = Workbook(sink, {"constant_memory": True, "tmpdir": directory})
        workbook.set_properties({"created": _CREATED})
        yield _Sheet(workbook, schema)
        workbook.close()


@contextmanager
def xlsx_in_memory(sink: IO[bytes], schema: pa.Schema) -> Iterator[_Sheet]:
    """As `xlsx`, without a file: for few rows, and where no file can be written."""
    from xlsxwriter import Workbook

    stored = BytesIO()
    workbook = Workbook(stored, {"in_memory": True})
    workbook.set_properties({"created": _CREATED})
    yield _Sheet(workbook, schema)
    workbook.close()
    sink.write(stored.getvalue())
