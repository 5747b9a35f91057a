"""Build `index.duckdb` and the activation files of a run, table by table, in the order that queries want."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa

from tegakari.schemas.tables import TABLES, Table
from tegakari.store.blocks.activations import Activations, write_activations
from tegakari.store.disk.layout import DATABASE, layer_file

_SQL_TYPES = {
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.list_(pa.int32()): "INTEGER[]",
    pa.list_(pa.string()): "VARCHAR[]",
}


READABLE_SINCE = "v1.2.0"
"""Oldest DuckDB that opens the file."""


ROW_GROUP = 2**17
"""Rows of a row group of the activation files: what the question for one feature has to read."""


class RunWriter:
    """Writes the tables of one run into a staging directory. Use as a context manager; close before publishing."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._connection = duckdb.connect(
            str(directory / DATABASE), config={"storage_compatibility_version": READABLE_SINCE}
        )
        # Tables must not depend on how many threads happened to insert them.
        self._connection.execute("SET preserve_insertion_order = true")
        for table in TABLES:
            columns = ", ".join(f"{column.name} {_SQL_TYPES[column.type]}" for column in table.columns)
            self._connection.execute(f"CREATE TABLE {table.name} ({columns})")
        self.activations = 0

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def append(self, table: Table, rows: pa.Table) -> None:
        """Append rows that are already in the table's order."""
        self._connection.register("incoming", rows.cast(table.schema))
        self._connection.execute(f"INSERT INTO {table.name} SELECT * FROM incoming")
        self._connection.unregister("incoming")

    def write_activations(self, layer: int, activations: Activations) -> None:
        """Write one layer's activations, as `activations.ordered` gives them."""
        file = layer_file(self.directory, layer)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_activations(file, [activations], row_group=ROW_GROUP)
        self.activations += len(activations.feature)
