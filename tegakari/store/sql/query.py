"""SQL of the store's owner: any query over the views, on a connection that nobody shares."""

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
from tegakari.store.sql.views import connect

BATCH_ROWS = 10_000


def run_query(
    store: Path, runs: Sequence[str], query: str, parameters: Mapping[str, object] | None = None
) -> pa.RecordBatchReader:
    """Run one query over the views of these runs; `$name` in it stands for a parameter.

    It is the owner's own query on the owner's machine and may read and write files; what strangers send is run in the
    sandbox.

    Raises:
        SqlError: the query is wrong, or gives no rows.
        NotFoundError, StoreError: a run is not there or damaged.
    """
    connection = connect(store, runs)
    with _said():
        found = connection.sql(query, params=dict(parameters or {}))
    if found is None:
        return pa.RecordBatchReader.from_batches(pa.schema([]), [])
    with _said():
        reader = found.to_arrow_reader(BATCH_ROWS)

    def batches() -> Iterator[pa.RecordBatch]:
        with _said():  # much goes wrong only when rows are asked for
            yield from reader
        connection.close()

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


@contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise SqlError(str(error), field="query", fix="the tables are described in docs/tables.md") from None


def write_rows(sink: IO[bytes], rows: pa.RecordBatchReader, form: str) -> int:
    """Write rows as a JSON array of objects, or in a format of `tabular.WRITERS`; return how many there were."""
    if form != "json":
        return formats.write(sink, rows, form)
    encode = msgspec.json.Encoder(enc_hook=str).encode
    count = 0
    sink.write(b"[")
    for batch in rows:
        for row in batch.to_pylist():
            sink.write((b"\n " if count == 0 else b",\n ") + encode(row))
            count += 1
    sink.write(b"\n]\n")
    return count
