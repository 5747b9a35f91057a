"""Types of Arrow and DuckDB for the column types of `schemas/tables.py`."""

from __future__ import annotations

import pyarrow as pa

from tegakari.schemas.tables import ColumnType, Table

ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "int32[]": pa.list_(pa.int32()),
    "float32[]": pa.list_(pa.float32()),
    "string[]": pa.list_(pa.string()),
}

DUCKDB_TYPES: dict[ColumnType, str] = {
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "string": "VARCHAR",
    "bool": "BOOLEAN",
    "int32[]": "INTEGER[]",
    "float32[]": "FLOAT[]",
    "string[]": "VARCHAR[]",
}


def arrow_schema(table: Table) -> pa.Schema:
    """Arrow schema of a table, columns in the table's order."""
    return pa.schema([(column.name, ARROW_TYPES[column.type]) for column in table.columns])
