"""Write `index.duckdb` of a run, table by table, each in its stored order."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow as pa

from tegakari.schemas.tables import TABLES, Table
from tegakari.store.column_types import arrow_schema
from tegakari.store.disk.layout import DATABASE
from tegakari.store.sql.attach import table_definition

READABLE_SINCE = "v1.2.0"
"""Oldest version of DuckDB that opens the file."""


THREADS = max(1, min(8, (os.cpu_count() or 1) // 2))
"""Threads that compress a table; the other cores merge layers and read the rows of labels meanwhile."""

THREAD_MEGABYTES = 128
"""Memory of DuckDB per thread: with less its threads wait for each other; without a limit it keeps written blocks in
memory, up to four fifths of the machine's."""

TABLE_ROW_GROUP = 122_880
"""Rows that DuckDB compresses as one unit."""


class RunWriter:
    """Writes the tables of one run into a staging directory; a context manager, to be left before publication."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._connection = duckdb.connect(
            str(directory / DATABASE),
            config={
                "storage_compatibility_version": READABLE_SINCE,
                "threads": THREADS,
                "memory_limit": f"{THREADS * THREAD_MEGABYTES}MB",
            },
        )
        # Tables must not depend on the number of threads that insert rows.
        self._connection.execute("SET preserve_insertion_order = true")
        self._connection.execute("BEGIN")  # one transaction: nothing is written twice, to a log and to the tables
        for table in TABLES:
            self._connection.execute(table_definition(table))

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        finally:
            self._connection.close()  # on a full disk as well: nobody could open the path again in this process

    def append(self, table: Table, rows: pa.Table) -> None:
        """Append rows, sorted in the table's order."""
        schema = arrow_schema(table)
        self.append_batches(table, iter(rows.cast(schema).to_batches(max_chunksize=TABLE_ROW_GROUP)))

    def append_batches(self, table: Table, batches: Iterable[pa.RecordBatch]) -> None:
        """Append batches of rows in the table's order and columns; a thread compresses a batch."""
        self._connection.register("incoming", pa.RecordBatchReader.from_batches(arrow_schema(table), batches))
        self._connection.execute(f"INSERT INTO {table.name} SELECT * FROM incoming")
        self._connection.unregister("incoming")
