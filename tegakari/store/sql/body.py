"""Rows of a query as the body of a response, in a format and within a number of bytes that is checked as it grows.

Bytes of the format are counted, not those of Arrow: in JSON every row repeats the names of the columns, so that columns
without a byte of their own (NULL) make gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import msgspec
import pyarrow as pa

from tegakari.schemas.errors import SqlError, StoreError
from tegakari.schemas.sql import SqlColumn
from tegakari.store.export import formats
from tegakari.store.export.spreadsheets import xlsx_in_memory

SLICE_BYTES = 2**20
"""Rows are encoded in slices of about this size; the limits are checked between two."""

_CELL_BYTES = 8
"""Rough size of an encoded cell beside its value and, in JSON, its name."""

_encode = msgspec.json.Encoder(enc_hook=str).encode


class _Writer(Protocol):
    """Writes slices of rows into a sink."""

    @property
    def size(self) -> int:
        """Bytes that the body has at least, so far."""
        ...

    def write_batch(self, batch: pa.RecordBatch, /) -> None: ...

    def close(self, *, truncated: bool) -> None: ...


class _Json:
    """The JSON of `SqlResult`."""

    def __init__(self, sink: pa.BufferOutputStream, schema: pa.Schema) -> None:
        self._sink = sink
        self._separator = b""
        columns = [SqlColumn(name=field.name, type=str(field.type)) for field in schema]
        sink.write(b'{"columns":' + _encode(columns) + b',"items":[')

    @property
    def size(self) -> int:
        return self._sink.tell()

    def write_batch(self, batch: pa.RecordBatch, /) -> None:
        self._sink.write(self._separator + _encode(batch.to_pylist())[1:-1])
        self._separator = b","

    def close(self, *, truncated: bool) -> None:
        self._sink.write(b'],"next":null,"truncated":%s}' % _encode(truncated))


class _File:
    """CSV, and a stream of Arrow."""

    def __init__(self, sink: pa.BufferOutputStream, writer: AbstractContextManager[formats.BatchWriter]) -> None:
        self._sink = sink
        self._context = writer
        self._writer = writer.__enter__()

    @property
    def size(self) -> int:
        return self._sink.tell()

    def write_batch(self, batch: pa.RecordBatch, /) -> None:
        self._writer.write_batch(batch)

    def close(self, *, truncated: bool) -> None:
        del truncated  # a header of the response says it
        self._context.__exit__(None, None, None)


class _AtTheEnd:
    """Parquet and XLSX: one file, written at the end.

    A row group of Parquet per slice would repeat the description of every column; XLSX is an archive.
    """

    def __init__(self, sink: pa.BufferOutputStream, schema: pa.Schema, open_writer: formats.OpenWriter) -> None:
        self._sink = sink
        self._open_writer = open_writer
        self._schema = schema
        self._batches: list[pa.RecordBatch] = []
        self._size = 0

    @property
    def size(self) -> int:
        return max(self._size, self._sink.tell())

    def write_batch(self, batch: pa.RecordBatch, /) -> None:
        self._batches.append(batch)
        self._size += batch.nbytes + batch.num_rows * batch.num_columns  # a NULL has no byte, its column has an object

    def close(self, *, truncated: bool) -> None:
        del truncated  # a header of the response says it
        with self._open_writer(self._sink, self._schema) as writer:
            for batch in pa.Table.from_batches(self._batches, self._schema).combine_chunks().to_batches():
                writer.write_batch(batch)


@contextmanager
def _arrow_stream(sink: pa.BufferOutputStream, schema: pa.Schema) -> Iterator[formats.BatchWriter]:
    with pa.ipc.new_stream(sink, schema) as writer:
        yield writer


_WRITERS: dict[str, Callable[[pa.BufferOutputStream, pa.Schema], _Writer]] = {
    "json": _Json,
    "csv": lambda sink, schema: _File(sink, formats.WRITERS["csv"](sink, schema)),
    "arrow": lambda sink, schema: _File(sink, _arrow_stream(sink, schema)),
    "parquet": lambda sink, schema: _AtTheEnd(sink, schema, formats.WRITERS["parquet"]),
    "xlsx": lambda sink, schema: _AtTheEnd(sink, schema, xlsx_in_memory),
}


def encode_rows(
    reader: pa.RecordBatchReader, file_format: str, *, max_rows: int, max_bytes: int, check_time: Callable[[], None]
) -> tuple[pa.Buffer, bool]:
    """Encode the rows of a query.

    Args:
        reader: of the query's rows.
        file_format: json, csv, xlsx, parquet or arrow (a stream).
        max_rows: further rows are left out.
        max_bytes: largest size of the body.
        check_time: called between slices; raises once the time of the query is over.

    Returns:
        the body, and whether rows were left out.

    Raises:
        SqlError: the body would be larger than `max_bytes`, or the format cannot represent a value.
    """
    schema = _distinct(reader.schema)
    sink = pa.BufferOutputStream()
    rows = 0
    truncated = False
    with _translate_values(file_format):
        writer = _WRITERS[file_format](sink, schema)
    row_bytes = sum(_CELL_BYTES + (len(name.encode()) if file_format == "json" else 0) for name in schema.names)
    for batch in reader:
        part = batch.slice(0, max_rows - rows)
        truncated = part.num_rows < batch.num_rows
        for rows_of_slice in _slices(pa.RecordBatch.from_arrays(part.columns, schema=schema), row_bytes):
            check_time()
            _check_size(rows_of_slice.nbytes, rows, file_format, max_bytes)  # one value can be larger than all
            with _translate_values(file_format):
                writer.write_batch(rows_of_slice)
            rows += rows_of_slice.num_rows
            _check_size(writer.size, rows, file_format, max_bytes)
        if truncated:
            break
    with _translate_values(file_format):
        writer.close(truncated=truncated)
    _check_size(sink.tell(), rows, file_format, max_bytes)
    return sink.getvalue(), truncated


def _slices(batch: pa.RecordBatch, row_bytes: int) -> Iterator[pa.RecordBatch]:
    """Slices of about SLICE_BYTES in the format, of one row at least."""
    if not batch.num_rows:
        return
    size = max(1, SLICE_BYTES // (row_bytes + batch.nbytes // batch.num_rows + 1))
    for start in range(0, batch.num_rows, size):
        yield batch.slice(start, size)


def _check_size(size: int, rows: int, file_format: str, max_bytes: int) -> None:
    if size > max_bytes:
        fitting = int(0.9 * rows * max_bytes / size)  # less, because rows differ
        raise SqlError(
            f"the result is larger than the {max_bytes:,} bytes that the server sends: "
            f"{size:,} bytes of {file_format} after {rows:,} rows",
            field="limit",
            fix=f"set limit to {fitting:,} or less, or select fewer columns" if fitting else "select less per row",
        )


@contextmanager
def _translate_values(file_format: str) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise SqlError(error.message, field="format", fix="use format=parquet") from None
    except (pa.ArrowException, ValueError, OverflowError, TypeError) as error:
        raise SqlError(
            f"{file_format} cannot represent the result: {error}", field="format", fix="use format=arrow"
        ) from None


def _distinct(schema: pa.Schema) -> pa.Schema:
    """Number columns that share a name, since an object of JSON cannot hold both."""
    taken, fields = set(schema.names), []
    counts: dict[str, int] = {}
    for field in schema:
        name, count = field.name, counts.get(field.name, 0) + 1
        while count > 1 and (name := f"{field.name}_{count}") in taken:  # the query may have named a column a_2
            count += 1
        counts[field.name] = count
        taken.add(name)
        fields.append(field.with_name(name))
    return pa.schema(fields)
