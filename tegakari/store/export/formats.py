"""File formats of exported tables: Parquet, Arrow, CSV, XLSX."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Protocol

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from tegakari.schemas.errors import StoreError
from tegakari.store.export.arrow import flat
from tegakari.store.export.spreadsheets import xlsx


class BatchWriter(Protocol):
    """Writes the rows of a table, batch after batch."""

    def write_batch(self, batch: pa.RecordBatch, /) -> None: ...


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


OpenWriter = Callable[[IO[bytes], pa.Schema], AbstractContextManager[BatchWriter]]

WRITERS: dict[str, OpenWriter] = {
    "parquet": _parquet,
    "arrow": _arrow,
    "csv": _csv,
    "xlsx": xlsx,
}
"""Writers by name of the format, which is also the suffix of its files."""


def format_of(path: Path) -> str:
    """Format of a table that a command writes for people: XLSX by the suffix, else CSV."""
    return "xlsx" if path.suffix.lower() == ".xlsx" else "csv"


def check_bom(file_format: str | None) -> None:
    """Refuse a byte order mark in another format than CSV.

    Raises:
        StoreError: the format is another one.
    """
    if file_format != "csv":
        raise StoreError("only CSV begins with a byte order mark", field="--bom", fix="use --format csv")


def write(sink: IO[bytes], batches: pa.RecordBatchReader, file_format: str, *, bom: bool = False) -> int:
    """Write all rows of a reader in one of the formats of WRITERS.

    Args:
        sink: where the file goes.
        batches: the rows.
        file_format: one of WRITERS.
        bom: whether CSV begins with a byte order mark, by which Excel knows that it is UTF-8.

    Returns:
        number of rows.

    Raises:
        StoreError: a byte order mark in another format than CSV, or rows beyond the limits of XLSX.
    """
    rows = 0
    if bom:
        check_bom(file_format)
        sink.write(codecs.BOM_UTF8)
    with WRITERS[file_format](sink, batches.schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows
