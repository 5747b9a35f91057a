"""File formats of exported tables: Parquet, Arrow, CSV."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from tegakari.schemas.errors import StoreError


class BatchWriter(Protocol):
    """Writes the rows of a table, batch after batch."""

    def write_batch(self, batch: pa.RecordBatch, /) -> None: ...


def flat(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with lists and structs encoded as JSON, for formats that have neither."""
    columns = [
        pa.array([None if cell is None else msgspec.json.encode(cell).decode() for cell in column.to_pylist()])
        if pa.types.is_nested(column.type)
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


class _Csv:
    def __init__(self, sink: IO[bytes], schema: pa.Schema) -> None:
        types = [pa.string() if pa.types.is_nested(field.type) else field.type for field in schema]
        self._schema = pa.schema([(field.name, type_) for field, type_ in zip(schema, types, strict=True)])
        self._writer = pa_csv.CSVWriter(sink, self._schema)

    def write_batch(self, batch: pa.RecordBatch, /) -> None:
        self._writer.write_batch(flat(batch).cast(self._schema))

    def close(self) -> None:
        self._writer.close()


@contextmanager
def _csv(sink: IO[bytes], schema: pa.Schema) -> Iterator[BatchWriter]:
    writer = _Csv(sink, schema)
    yield writer
    writer.close()


def _parquet(sink: IO[bytes], schema: pa.Schema) -> AbstractContextManager[BatchWriter]:
    return pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True)


def _arrow(sink: IO[bytes], schema: pa.Schema) -> AbstractContextManager[BatchWriter]:
    return pa.ipc.new_file(sink, schema)


WRITERS: dict[str, Callable[[IO[bytes], pa.Schema], AbstractContextManager[BatchWriter]]] = {
    "parquet": _parquet,
    "arrow": _arrow,
    "csv": _csv,
}
"""Writers by name of the format, which is also the suffix of its files."""


_FORMULA = "^[=+\\-@\t\r]"
"""Start of a text that spreadsheets take for a formula, which runs when the file is opened."""


def for_spreadsheets(rows: pa.RecordBatchReader, file_format: str | None) -> pa.RecordBatchReader:
    """Rows whose texts, names of columns included, a spreadsheet shows instead of running them.

    Each text that starts like a formula gets an apostrophe in front. Other programs read the apostrophe as a part of
    the text, so that this is not the default.

    Raises:
        StoreError: the format is not CSV; spreadsheets do not run the texts of the others.
    """
    if file_format != "csv":
        raise StoreError("only CSV can hold formulas", field="--spreadsheet", fix="leave it out, or use --format csv")
    names = [f"'{name}" if re.match(_FORMULA, name) else name for name in rows.schema.names]
    schema = pa.schema([field.with_name(name) for field, name in zip(rows.schema, names, strict=True)])
    batches = (
        pa.RecordBatch.from_arrays([_shown(column) for column in batch.columns], schema=schema) for batch in rows
    )
    return pa.RecordBatchReader.from_batches(schema, batches)


def _shown(column: pa.Array) -> pa.Array:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    formulas = pc.call_function("match_substring_regex", [column], pc.MatchSubstringOptions(_FORMULA))
    nothing = pa.scalar("", column.type)
    marked = pc.call_function("binary_join_element_wise", [pa.scalar("'", column.type), column, nothing])
    return pc.call_function("if_else", [formulas, marked, column])


def write(sink: IO[bytes], batches: pa.RecordBatchReader, file_format: str) -> int:
    """Write all rows of a reader in one of the formats of WRITERS.

    Returns:
        number of rows.
    """
    rows = 0
    with WRITERS[file_format](sink, batches.schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows
