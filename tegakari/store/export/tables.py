"""Export of a run's tables and the notes on and explanations of its features as Parquet, Arrow, CSV or XLSX files."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from tegakari.schemas.errors import StoreError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.tables import ACTIVATIONS, CONTEXTS, LABEL_EFFECTS, TABLES, Table
from tegakari.store.disk.durable import staged_directory, translate_disk_full
from tegakari.store.disk.layout import MANIFEST
from tegakari.store.export import formats
from tegakari.store.export.spreadsheets import for_spreadsheets
from tegakari.store.reader import Run
from tegakari.store.sql.query import run_query
from tegakari.store.sql.views import EXPLANATIONS, NOTES

EXPORTED: tuple[Table, ...] = (*TABLES, ACTIVATIONS, CONTEXTS, LABEL_EFFECTS, NOTES, EXPLANATIONS)


def export_run(
    run: Run,
    target: Path,
    *,
    file_format: str = "parquet",
    tables: Iterable[str] = (),
    spreadsheet: bool = False,
    bom: bool = False,
    progress: Progress = NoProgress(),
) -> dict[str, int]:
    """Write tables of a run to a new directory, one file per table, with run.json; whole or absent.

    Args:
        run: a published run.
        target: directory to create.
        file_format: one of `formats.WRITERS`.
        tables: names of tables; default: all, with activations, contexts, label effects, notes and explanations.
        spreadsheet: whether to write texts that a spreadsheet would take for formulas with an apostrophe, in CSV.
        bom: whether CSV begins with a byte order mark.
        progress: one step per table.

    Returns:
        number of rows by table.

    Raises:
        StoreError: the directory exists, a table or the format does not exist, or a table is beyond the limits of XLSX.
        DiskFullError: no space; nothing is left behind.
    """
    selected = _select(tables)
    if file_format not in formats.WRITERS:
        names = ", ".join(formats.WRITERS)
        raise StoreError(f"{file_format!r} is not a format", field="--format", fix=f"use one of: {names}")
    if bom:
        formats.check_bom(file_format)
    refuse_existing(target)
    rows_written = {}
    with translate_disk_full(target, field="--to"), staged_directory(target) as staged:
        progress.stage("exporting", len(selected))
        for table in selected:
            progress.note(table.name)
            by_layer = table in (ACTIVATIONS, CONTEXTS, LABEL_EFFECTS)
            order = ", ".join(("layer", *table.order) if by_layer else table.order)
            rows = run_query(run.store, [run.name], f"SELECT * EXCLUDE run FROM {table.name} ORDER BY {order}")
            rows = _with_descriptions(rows, table)
            if spreadsheet:
                rows = for_spreadsheets(rows, file_format)
            with (staged / f"{table.name}.{file_format}").open("wb") as sink:
                rows_written[table.name] = formats.write(sink, rows, file_format, bom=bom)
            progress.advance()
        shutil.copyfile(run.directory / MANIFEST, staged / MANIFEST)
    return rows_written


def refuse_existing(target: Path) -> None:
    """Refuse to export into a directory that exists.

    Raises:
        StoreError: it exists.
    """
    if target.exists():
        raise StoreError(f"{target} exists", field="--to", fix="choose a directory that does not exist")


def _select(names: Iterable[str]) -> tuple[Table, ...]:
    tables = {table.name: table for table in EXPORTED}
    selected = []
    for name in names:
        if name not in tables:
            raise StoreError(f"{name!r} is not a table", field="--table", fix=f"use one of: {', '.join(tables)}")
        selected.append(tables[name])
    return tuple(selected) or EXPORTED


def _with_descriptions(rows: pa.RecordBatchReader, table: Table) -> pa.RecordBatchReader:
    """The rows, with the meaning of the table and of each column in the schema's metadata."""
    about = {column.name: column.about for column in table.columns}
    fields = [
        field.with_metadata({"about": about[field.name]}) if field.name in about else field for field in rows.schema
    ]
    schema = pa.schema(fields, {"about": table.about})
    batches = (pa.RecordBatch.from_arrays(batch.columns, schema=schema) for batch in rows)
    return pa.RecordBatchReader.from_batches(schema, batches)
