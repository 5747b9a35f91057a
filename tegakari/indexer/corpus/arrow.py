"""Rows of Parquet and Arrow files, read in slices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from tegakari.indexer.corpus.rows import Columns, Row, column_indices
from tegakari.schemas.decoding import decode_json

_SLICE_ROWS = 1024
_FILE_MAGIC = b"ARROW1"


def read_parquet(path: Path, columns: Columns) -> Iterator[Row]:
    """Read the rows of a Parquet file.

    Raises:
        CorpusError: a configured column is missing.
        OSError, pyarrow.ArrowException: the file is damaged.
    """
    with pq.ParquetFile(path) as file:
        names = [file.schema_arrow.field(index).name for index in _column_indices(file.schema_arrow, columns, path)]
        yield from _rows(file.schema_arrow, columns, path, file.iter_batches(_SLICE_ROWS, columns=names))


def read_arrow(path: Path, columns: Columns) -> Iterator[Row]:
    """Read the rows of an Arrow IPC file or stream; `datasets` writes streams.

    Raises:
        CorpusError: a configured column is missing.
        OSError, pyarrow.ArrowException: the file is damaged.
    """
    with pa.OSFile(str(path)) as source:
        is_file = source.read(len(_FILE_MAGIC)) == _FILE_MAGIC
        source.seek(0)
        if is_file:
            file = pa.ipc.open_file(source)
            batches = (file.get_batch(number) for number in range(file.num_record_batches))
            yield from _rows(file.schema, columns, path, batches)
        else:
            stream = pa.ipc.open_stream(source)
            yield from _rows(stream.schema, columns, path, stream)


def _column_indices(schema: pa.Schema, columns: Columns, path: Path) -> list[int]:
    return [index for index in column_indices(columns, schema.names, path.name) if index is not None]


def _rows(schema: pa.Schema, columns: Columns, path: Path, batches: Iterable[pa.RecordBatch]) -> Iterator[Row]:
    _column_indices(schema, columns, path)
    names = _class_names(schema, columns.label)
    number = 0
    for batch in batches:
        arrays = [_validated(batch.column(name)) if name else pa.nulls(batch.num_rows) for name in columns]
        for start in range(0, batch.num_rows, _SLICE_ROWS):
            cells = [column.slice(start, _SLICE_ROWS).to_pylist() for column in arrays]
            if names is not None:
                label = Columns._fields.index("label")
                cells[label] = [_class_name(value, names) for value in cells[label]]
            for values in zip(*cells, strict=True):
                number += 1
                yield Row(f"row {number}", *values)


def _validated(column: pa.Array) -> pa.Array:
    """The column with strings as bytes, so that a string that is not UTF-8 does not make the others unreadable.

    Raises:
        pyarrow.ArrowException: offsets or indices of a damaged file exceed its buffers.
    """
    if pa.types.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(column.indices, _validated(column.dictionary)).dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    elif pa.types.is_string_view(column.type):
        column = column.cast(pa.binary_view())
    column.validate(full=True)
    return column


class _Feature(msgspec.Struct):
    type: str | None = msgspec.field(name="_type", default=None)
    names: list[str] | None = None


class _Info(msgspec.Struct):
    features: dict[str, msgspec.Raw] = {}


class _HuggingFace(msgspec.Struct):
    info: _Info = msgspec.field(default_factory=_Info)


def _class_names(schema: pa.Schema, label: str) -> list[str] | None:
    """Class names of a `ClassLabel` column: `datasets` stores numbers, and the names in the schema's metadata."""
    try:
        metadata = decode_json((schema.metadata or {})[b"huggingface"], _HuggingFace)
        feature = decode_json(bytes(metadata.info.features[label]), _Feature)
    except (KeyError, msgspec.DecodeError):
        return None
    return feature.names if feature.type == "ClassLabel" else None


def _class_name(value: object, names: list[str]) -> object:
    """The class name of a number; None for -1, which stands for no label, and for other numbers without a name."""
    if not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None
