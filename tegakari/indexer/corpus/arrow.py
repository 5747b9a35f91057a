"""Rows of Parquet and Arrow files, read in slices of bounded size.

Both formats can store a long text once for many rows. Such columns stay encoded until a slice of them becomes text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tegakari.indexer.corpus.decoded_size import DecodedSize, limited_memory
from tegakari.indexer.corpus.lines import MAX_ROW_CHARACTERS
from tegakari.indexer.corpus.reasons import Reason
from tegakari.indexer.corpus.rows import Columns, Reject, Row, column_indices
from tegakari.schemas.decoding import decode_json

_SLICE_ROWS = 1024
_SLICE_BYTES = 32 * 2**20
_FIXED_BYTES = 16
"""Counted for a value that is not text."""
_FILE_MAGIC = b"ARROW1"

T = TypeVar("T")


def read_parquet(path: Path, columns: Columns) -> Iterator[Row | Reject]:
    """Read the rows of a Parquet file.

    Raises:
        CorpusError: a configured column is missing, or the file decodes to far more bytes than it has.
        OSError, pyarrow.ArrowException: the file is damaged.
    """
    with pq.ParquetFile(path) as plain:
        schema = plain.schema_arrow
        names = [schema.field(index).name for index in _column_indices(schema, columns, path)]
    decoded = DecodedSize(path)
    texts = [name for name in names if _is_text(schema.field(name).type)]
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        rows = _check_metadata(file.metadata, set(names), decoded)
        flat = readable_columns(schema, columns)
        yield from rows_of_batches(schema, columns, path, file.iter_batches(rows, columns=flat), decoded)


def _check_metadata(metadata: pq.FileMetaData, names: set[str], decoded: DecodedSize) -> int:
    """Compare the stated sizes of the columns with the limit; returns the number of rows to read at once."""
    rows = _SLICE_ROWS
    total = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        chunks = (group.column(index) for index in range(group.num_columns))
        size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in names)
        total += max(0, size)
        decoded.check(total)
        rows = min(rows, max(1, _SLICE_BYTES * max(1, group.num_rows) // max(1, size)))
    return rows


def read_arrow(path: Path, columns: Columns) -> Iterator[Row | Reject]:
    """Read the rows of an Arrow IPC file or stream; `datasets` writes streams.

    Raises:
        CorpusError: a configured column is missing, or the file decodes to far more bytes than it has.
        OSError, pyarrow.ArrowException: the file is damaged.
    """
    with pa.OSFile(str(path)) as source:
        schema, batches = open_batches(source)
        yield from rows_of_batches(schema, columns, path, batches, DecodedSize(path))


def open_batches(source: pa.NativeFile) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    """Schema and batches of an Arrow IPC file or stream, which is read batch by batch.

    Raises:
        OSError, pyarrow.ArrowException: it is neither.
    """
    is_file = source.read(len(_FILE_MAGIC)) == _FILE_MAGIC
    source.seek(0)
    if is_file:
        file = pa.ipc.open_file(source)
        return file.schema, (file.get_batch(number) for number in range(file.num_record_batches))
    stream = pa.ipc.open_stream(source)
    return stream.schema, stream


def readable_columns(schema: pa.Schema, columns: Columns) -> list[str]:
    """The configured columns that can hold text: those that are not nested, and a label column of lists."""
    kinds = {name: schema.field(name).type for name in columns if name}
    return [
        name
        for name, kind in kinds.items()
        if not pa.types.is_nested(kind)
        or (name == columns.label and _is_list(kind) and not pa.types.is_nested(kind.value_type))
    ]


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _column_indices(schema: pa.Schema, columns: Columns, path: Path) -> list[int]:
    return [index for index in column_indices(columns, schema.names, path.name) if index is not None]


def rows_of_batches(
    schema: pa.Schema, columns: Columns, path: Path, batches: Iterable[pa.RecordBatch], decoded: DecodedSize
) -> Iterator[Row | Reject]:
    """Rows of batches of one file, numbered from 1.

    Args:
        schema: of the file.
        columns: the configured columns.
        path: of the file, for errors.
        batches: with at least the configured columns that are not nested.
        decoded: of the file.

    Raises:
        CorpusError: a configured column is missing, or the file decodes to far more bytes than it has.
        OSError, pyarrow.ArrowException: the file is damaged.
    """
    _column_indices(schema, columns, path)
    names = _class_names(schema, columns.label)
    nested = set(filter(None, columns)) - set(readable_columns(schema, columns))
    number = 0
    for batch in _within_memory(batches, path):
        arrays = [
            validated(batch.column(name)) if name and name not in nested else pa.nulls(batch.num_rows)
            for name in columns
        ]
        lengths = np.sum([_byte_lengths(array) for array in arrays], axis=0)
        for start, end in _slices(lengths):
            size = int(lengths[start:end].sum())
            decoded.add(size, end - start)
            if size > MAX_ROW_CHARACTERS:  # then it is one row
                number += 1
                yield Reject(f"row {number}", Reason.TOO_LARGE)
                continue
            cells = [_cells(array.slice(start, end - start)) for array in arrays]
            for index, name in enumerate(columns):
                if name in nested:
                    cells[index] = [[]] * (end - start)  # whatever it is, it is no text
            if names is not None:
                label = Columns._fields.index("label")
                cells[label] = [_class_name(value, names) for value in cells[label]]
            for values in zip(*cells, strict=True):
                number += 1
                yield Row(f"row {number}", *values)


def _within_memory(items: Iterable[T], path: Path) -> Iterator[T]:
    """The items, each made in limited memory."""
    iterator = iter(items)
    while True:
        with limited_memory(path):
            item = next(iterator, None)
        if item is None:
            return
        yield item


def _slices(lengths: np.ndarray) -> Iterator[tuple[int, int]]:
    """Start and end of slices of at most _SLICE_ROWS rows and _SLICE_BYTES; a longer row is a slice of its own."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        before = int(ends[start - 1]) if start else 0
        end = int(np.searchsorted(ends, before + _SLICE_BYTES, side="right"))
        end = min(max(end, start + 1), start + _SLICE_ROWS)
        yield start, end
        start = end


def _is_text(kind: pa.DataType) -> bool:
    return any(
        check(kind)
        for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    )


def validated(column: pa.Array) -> pa.Array:
    """The column with strings as bytes, so that a string that is not UTF-8 does not make the others unreadable.

    Raises:
        pyarrow.ArrowException: offsets or indices of a damaged file exceed its buffers.
    """
    if isinstance(column, pa.ExtensionArray):
        return validated(column.storage)
    if pa.types.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(column.indices, validated(column.dictionary))
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_binary(column.type):
        column = column.cast(pa.large_binary())
    elif pa.types.is_string_view(column.type):
        column = column.cast(pa.binary_view())
    column.validate(full=True)
    return column


def _byte_lengths(column: pa.Array) -> np.ndarray:
    """Bytes of each value as text, int64 [rows]; of a validated column."""
    if _is_list(column.type):
        ends = np.cumsum(np.append(0, _byte_lengths(validated(column.flatten()))))
        counts = np.cumsum(np.append(0, np.asarray(column.value_lengths().fill_null(0), np.int64)))
        return np.diff(ends[counts])
    if pa.types.is_dictionary(column.type):
        lengths = np.append(_byte_lengths(column.dictionary), 0)  # the last stands for null
        indices = column.indices.cast(pa.int64()).fill_null(len(column.dictionary))
        return lengths[np.asarray(indices)]
    if pa.types.is_large_binary(column.type):
        offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
        return np.diff(offsets) if len(column) else np.zeros(0, np.int64)
    if pa.types.is_binary_view(column.type):
        views = np.frombuffer(column.buffers()[1], np.int32).reshape(-1, 4)
        return views[column.offset : column.offset + len(column), 0].astype(np.int64)
    if pa.types.is_run_end_encoded(column.type):
        longest = int(_byte_lengths(validated(column.values)).max(initial=0))
        return np.full(len(column), longest, np.int64)
    return np.full(len(column), 0 if pa.types.is_null(column.type) else _FIXED_BYTES, np.int64)


def _cells(column: pa.Array) -> list[object]:
    return (column.dictionary_decode() if pa.types.is_dictionary(column.type) else column).to_pylist()


class _Feature(msgspec.Struct):
    type: str | None = msgspec.field(name="_type", default=None)
    names: list[str] | None = None
    feature: _Feature | None = None
    """of the items of a list."""


class _Info(msgspec.Struct):
    features: dict[str, msgspec.Raw] = {}


class _HuggingFace(msgspec.Struct):
    info: _Info = msgspec.field(default_factory=_Info)


def _class_names(schema: pa.Schema, label: str) -> list[str] | None:
    """Class names of a `ClassLabel` column: `datasets` stores numbers, and the names in the schema's metadata."""
    try:
        metadata = decode_json((schema.metadata or {})[b"huggingface"], _HuggingFace)
        text = bytes(metadata.info.features[label])
        feature = decode_json(text, list[_Feature])[0] if text.startswith(b"[") else decode_json(text, _Feature)
        feature = feature.feature or feature
    except (KeyError, IndexError, msgspec.DecodeError):
        return None
    return feature.names if feature.type == "ClassLabel" else None


def _class_name(value: object, names: list[str]) -> object:
    """The class name of a number; None for -1, which stands for no label, and for other numbers without a name."""
    if isinstance(value, list):
        return [_class_name(item, names) for item in value]
    if not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None
