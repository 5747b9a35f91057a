"""SQL of the store's owner: any query over the views of runs, on a separate connection per query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import duckdb
import msgspec
import pyarrow as pa

from tegakari.schemas.errors import SqlError
from tegakari.store.export import formats
from tegakari.store.sql.views import VIEWS, connect, named_views

BATCH_ROWS = 10_000


def run_query(
    store: Path, runs: Sequence[str], sql: str, parameters: Mapping[str, object] | None = None
) -> pa.RecordBatchReader:
    """Rows of one query over the views of these runs; `$name` in the query stands for a parameter.

    The query is trusted: it may read and write files. Queries of others run in the sandbox.

    Raises:
        SqlError: the query is wrong; also raised while rows are read.
        StoreError: a run is missing or damaged.
    """
    # A query that names no view may list them.
    connection = connect(store, runs, named_views(sql) or VIEWS)
    with _translate_errors():
        relation = connection.sql(sql, params=dict(parameters or {}))
    if relation is None:
        return pa.RecordBatchReader.from_batches(pa.schema([]), [])
    with _translate_errors():
        reader = relation.to_arrow_reader(BATCH_ROWS)

    def batches() -> Iterator[pa.RecordBatch]:
        with _translate_errors():  # many errors occur only when rows are read
            yield from reader
        connection.close()

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise SqlError(str(error), field="query", fix="select from the tables that docs/tables.md describes") from None


def write_rows(sink: IO[bytes], rows: pa.RecordBatchReader, file_format: str, *, bom: bool = False) -> int:
    """Write rows as a JSON array of objects ("json"), or in a format of `formats.WRITERS`.

    Returns:
        number of rows.
    """
    if bom:
        formats.check_bom(file_format)
    if file_format != "json":
        return formats.write(sink, rows, file_format, bom=bom)
    encode = msgspec.json.Encoder(enc_hook=str).encode
    count = 0
    sink.write(b"[")
    for batch in rows:
        for row in batch.to_pylist():
            sink.write((b"\n " if count == 0 else b",\n ") + encode(row))
            count += 1
    sink.write(b"\n]\n")
    return count
