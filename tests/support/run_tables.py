"""The content of a run's tables in a form that two runs can be compared by."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from tegakari.schemas.tables import TABLES


def tables_of(directory: Path) -> dict[str, str]:
    """Values and row order of every table of a run, as one hash per table; activation files in full.

    Args:
        directory: of the published run.
    """
    hashes: dict[str, str] = {}
    with duckdb.connect(str(directory / "index.duckdb"), read_only=True) as connection:
        for table in TABLES:
            rows = f"SELECT md5(string_agg(t::VARCHAR, '|' ORDER BY rowid)) FROM {table.name} t"
            hashes[table.name] = str(connection.sql(rows).fetchall())
    for file in sorted((directory / "activations").rglob("*.parquet")):
        hashes[file.relative_to(directory).as_posix()] = str(pq.ParquetFile(file).read().to_pydict())
    return hashes
