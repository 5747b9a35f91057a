"""Every table of a run as files that any tool reads."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa

from tegakari.schemas.errors import StoreError
from tegakari.schemas.tables import ACTIVATIONS, TABLES, Table
from tegakari.store.disk.durable import fsync_tree, rename_into_place, translate_disk_full
from tegakari.store.disk.layout import MANIFEST
from tegakari.store.export import formats
from tegakari.store.reader import Run
from tegakari.store.sql.query import run_query

EXPORTED: tuple[Table, ...] = (*TABLES, ACTIVATIONS)


def export_run(
    run: Run,
    target: Path,
    *,
    form: str = "parquet",
    tables: Iterable[str] = (),
    advance: Callable[[str], None] = lambda _: None,
) -> dict[str, int]:
    """Write tables of a run to a new directory, one file each, with run.json beside them; whole or absent.

    Args:
        run: published.
        target: a directory that does not exist.
        form: one of `tabular.WRITERS`.
        tables: names; default: all, activations included.
        advance: told of each table before it is written.

    Returns:
        rows of each table.

    Raises:
        StoreError: the directory exists, or there is no such table or format.
        DiskFullError: no space; nothing is left behind.
    """
    chosen = _chosen(tables)
    if form not in formats.WRITERS:
        known = ", ".join(formats.WRITERS)
        raise StoreError(f"{form!r} is no format", field="--format", fix=f"use one of: {known}")
    if target.exists():
        raise StoreError(f"{target} exists", field="--to", fix="choose a directory that does not")
    staged = target.with_name(f".{target.name}.part")
    store = run.directory.parent.parent
    written = {}
    with translate_disk_full(target, field="--to"):
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        try:
            for table in chosen:
                advance(table.name)
                order = ", ".join(("layer", *table.order) if table is ACTIVATIONS else table.order)
                rows = run_query(store, [run.name], f"SELECT * EXCLUDE run FROM {table.name} ORDER BY {order}")
                with (staged / f"{table.name}.{form}").open("wb") as sink:
                    written[table.name] = formats.write(sink, _described(rows, table), form)
            shutil.copyfile(run.directory / MANIFEST, staged / MANIFEST)
            fsync_tree(staged)
            rename_into_place(staged, target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return written


def _chosen(names: Iterable[str]) -> tuple[Table, ...]:
    wanted = list(names)
    known = {table.name: table for table in EXPORTED}
    for name in wanted:
        if name not in known:
            raise StoreError(f"{name!r} is no table", field="--table", fix=f"use one of: {', '.join(known)}")
    return tuple(known[name] for name in wanted) or EXPORTED


def _described(rows: pa.RecordBatchReader, table: Table) -> pa.RecordBatchReader:
    """The rows with what each column means in the schema's metadata."""
    about = {column.name: column.about for column in table.columns}
    fields = [
        field.with_metadata({"about": about[field.name]}) if field.name in about else field for field in rows.schema
    ]
    schema = pa.schema(fields, {"about": table.about})
    batches = (pa.RecordBatch.from_arrays(batch.columns, schema=schema) for batch in rows)
    return pa.RecordBatchReader.from_batches(schema, batches)
