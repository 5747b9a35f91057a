"""Files of the deterministic explanations, in the directory of a run or of its additions: a row per feature."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.tables import TERM_EXPLANATIONS
from tegakari.store.column_types import arrow_schema
from tegakari.store.disk.contents import check_contents
from tegakari.store.disk.layout import EXPLANATIONS, additions_directory, explanation_file
from tegakari.store.reader import Run

ROW_GROUP = 512
"""Features per row group: what a query for one feature reads."""

SCHEMA = arrow_schema(TERM_EXPLANATIONS)


def write_term_rows(directory: Path, layer: int, rows: Iterable[pa.RecordBatch]) -> None:
    """Write the explanations of a layer.

    Args:
        directory: of a run or of its additions.
        layer: the layer.
        rows: of SCHEMA, one per feature, in order.
    """
    file = explanation_file(directory, layer)
    file.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(file, SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        pending: list[pa.RecordBatch] = []
        for batch in rows:
            pending.append(batch)
            table = pa.Table.from_batches(pending, SCHEMA)
            whole = len(table) // ROW_GROUP * ROW_GROUP
            if whole:
                writer.write_table(table.slice(0, whole), row_group_size=ROW_GROUP)
                pending = table.slice(whole).to_batches()
        if pending:
            writer.write_table(pa.Table.from_batches(pending, SCHEMA), row_group_size=ROW_GROUP)


def explanations_of_run(run: Run) -> Path | None:
    """Directory that has the deterministic explanations of a run: its own, or that of its additions; None: neither."""
    for directory in (run.directory, additions_directory(run.store, run.manifest)):
        if (directory / EXPLANATIONS).is_dir():
            return directory
    return None


def read_term_rows(run: Run, layer: int, features: Sequence[int] | None = None) -> pa.Table:
    """Rows of features of a layer, by feature; of all features by default.

    Raises:
        NotFoundError: the run has no deterministic explanations, or was deleted meanwhile.
        StoreError: a file is damaged.
    """
    width = run.manifest.saes.widths[run.manifest.saes.layers.index(layer)]
    with run.opening_files():
        directory = explanations_of_run(run)
        if directory is None:
            raise NotFoundError(
                f"run {run.name!r} has no explanations",
                field="run",
                fix=f"`tegakari runs add-contexts {run.name}` adds them",
            )
        if directory != run.directory:
            check_contents(directory)
        with pq.ParquetFile(explanation_file(directory, layer), page_checksum_verification=True) as parquet:
            if not parquet.schema_arrow.remove_metadata().equals(SCHEMA) or parquet.metadata.num_rows != width:
                raise ValueError(f"the explanations of layer {layer} have other columns or rows")
            if features is None:
                return _checked(run, parquet.read(), np.arange(width))
            wanted = np.array(sorted(set(features)), np.int64)
            sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
            group_of_row = np.repeat(np.arange(len(sizes)), sizes)
            groups = np.unique(group_of_row[wanted])
            present = np.flatnonzero(np.isin(group_of_row, groups))
            rows = parquet.read_row_groups(groups.tolist()).take(np.searchsorted(present, wanted))
            return _checked(run, rows, wanted)


def _checked(run: Run, rows: pa.Table, features: np.ndarray) -> pa.Table:
    """Rows, whose numbers are those of the run and whose lists are parallel."""
    rows.validate(full=True)
    nullable = ("token", "place", "script")
    if any(rows[name].null_count for name in rows.column_names if name not in nullable):
        raise ValueError("the explanations have no value in a column")
    if not np.array_equal(rows["feature"].to_numpy(), features):
        raise ValueError("the explanations are not in the order of their features")
    lists = {name: rows[name].combine_chunks() for name in SCHEMA.names if pa.types.is_list(SCHEMA.field(name).type)}
    for names in (("label_ids", "label_d", "label_active"), tuple(name for name in lists if name.startswith("term"))):
        lengths = [lists[name].value_lengths() for name in names]
        if any(not length.equals(lengths[0]) for length in lengths) or any(
            lists[name].flatten().null_count for name in names
        ):
            raise ValueError("the explanations have lists of different length")
    labels = lists["label_ids"].flatten().to_numpy()
    if len(labels) and not 0 <= labels.min() <= labels.max() < run.manifest.corpus.labels:
        raise ValueError("the explanations have numbers outside of the run")
    return rows
