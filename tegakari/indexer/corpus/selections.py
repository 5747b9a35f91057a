"""Rows of data sets that are a selection of the rows of their files, which `datasets` calls an indices mapping."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from tegakari.indexer.corpus.arrow import open_batches, readable_columns, rows_of_batches, validated
from tegakari.indexer.corpus.decoded_size import DecodedSize, limited_memory
from tegakari.indexer.corpus.layouts import FIELD, Selection
from tegakari.indexer.corpus.rows import Columns, Reject, Row, column_indices
from tegakari.schemas.errors import CorpusError

_SLICE_ROWS = 1024


def read_selection(selection: Selection, columns: Columns) -> Iterator[Row | Reject]:
    """Read the selected rows in the order of the selection; a row that it names twice is read twice.

    Columns of `datasets` are not compressed, so that the files stay mapped and only slices are in memory.

    Raises:
        CorpusError: a configured column is missing, or the selection names a row that does not exist.
        OSError, pyarrow.ArrowException: a file is damaged.
    """
    path = selection.files[0].path
    with limited_memory(path):
        schema, batches = _stored(selection, columns)
    lengths = np.array([batch.num_rows for batch in batches], np.int64)
    first = np.concatenate([[0], np.cumsum(lengths)])
    numbers = _numbers(selection.indices, int(first[-1]))
    slices = (
        _gathered(batches, first, numbers[start : start + _SLICE_ROWS]) for start in range(0, len(numbers), _SLICE_ROWS)
    )
    yield from rows_of_batches(schema, columns, path, slices, DecodedSize(*(file.path for file in selection.files)))


def _stored(selection: Selection, columns: Columns) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """Schema and batches of all files, of the configured columns alone."""
    schema: pa.Schema | None = None
    batches: list[pa.RecordBatch] = []
    for file in selection.files:
        with pa.memory_map(str(file.path)) as source:
            file_schema, parts = open_batches(source)
            column_indices(columns, file_schema.names, file.path.name)
            schema = schema or file_schema
            names = readable_columns(file_schema, columns)
            start, end = file.skip, None if file.take is None else file.skip + file.take
            for part in parts:
                kept = part.slice(max(0, start), None if end is None else max(0, end - max(0, start)))
                start, end = start - part.num_rows, None if end is None else end - part.num_rows
                arrays = [validated(kept.column(name)) for name in names]
                batches.append(pa.RecordBatch.from_arrays(arrays, names=names))
    if schema is None:
        raise CorpusError("a data set without files has no rows", field=FIELD, fix="save the data set again")
    return schema, batches


def _numbers(files: tuple[Path, ...], rows: int) -> np.ndarray:
    """Numbers of the selected rows, int64 [selected]: those of the indices files, or all."""
    if not files:
        return np.arange(rows)
    numbers: list[np.ndarray] = []
    for file in files:
        with pa.memory_map(str(file)) as source, limited_memory(file):
            _, parts = open_batches(source)
            for part in parts:
                column = part.column(0)
                column.validate(full=True)
                numbers.append(np.array(column.cast(pa.int64()).to_numpy(zero_copy_only=False)))
    selected = np.concatenate([np.zeros(0, np.int64), *numbers])
    if not np.issubdtype(selected.dtype, np.integer) or np.any((selected < 0) | (selected >= rows)):
        raise CorpusError(
            f"{files[0]} names rows that the data set's {rows:,} rows do not have",
            field=FIELD,
            fix="copy the data set again",
        )
    return selected


def _gathered(batches: list[pa.RecordBatch], first: np.ndarray, numbers: np.ndarray) -> pa.RecordBatch:
    """Rows of several batches by number, in this order.

    Args:
        batches: all batches.
        first: number of the first row of each batch, and of all rows, int64 [batches + 1].
        numbers: of the rows, int64 [rows].
    """
    sources = np.searchsorted(first, numbers, side="right") - 1
    order = np.argsort(sources, kind="stable")
    pieces: list[pa.RecordBatch] = []
    for source in np.unique(sources):
        rows = pa.array(numbers[order][sources[order] == source] - first[source])
        columns = [column.take(rows) for column in batches[source].columns]
        columns = [column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in columns]
        pieces.append(pa.RecordBatch.from_arrays(columns, names=batches[source].schema.names))
    gathered = pa.Table.from_batches(pieces).take(pa.array(np.argsort(order)))
    return gathered.combine_chunks().to_batches()[0]
