"""Parquet and Arrow files, a slice of rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from tegakari.indexer.corpus.rows import Columns, Row, positions

_SLICE_ROWS = 1024
_FILE_MAGIC = b"ARROW1"


def read_parquet(path: Path, columns: Columns) -> Iterator[Row]:
    """Read one file.

    Raises:
        CorpusError: a configured column is missing.
        OSError, pyarrow.ArrowException: it is damaged.
    """
    with pq.ParquetFile(path) as file:
        names = [file.schema_arrow.field(place).name for place in _places(file.schema_arrow, columns, path)]
        yield from _rows(file.schema_arrow, columns, path, file.iter_batches(_SLICE_ROWS, columns=names))


def read_arrow(path: Path, columns: Columns) -> Iterator[Row]:
    """Read one Arrow IPC file or stream; `datasets` writes streams.

    Raises:
        CorpusError: a configured column is missing.
        OSError, pyarrow.ArrowException: it is damaged.
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


def _places(schema: pa.Schema, columns: Columns, path: Path) -> list[int]:
    return [place for place in positions(columns, schema.names, path.name) if place is not None]


def _rows(schema: pa.Schema, columns: Columns, path: Path, batches: Iterable[pa.RecordBatch]) -> Iterator[Row]:
    _places(schema, columns, path)
    names = _class_names(schema, columns.label)
    number = 0
    for batch in batches:
        read = [_checked(batch.column(name)) if name else pa.nulls(batch.num_rows) for name in columns]
        for start in range(0, batch.num_rows, _SLICE_ROWS):
            cells = [column.slice(start, _SLICE_ROWS).to_pylist() for column in read]
            if names is not None:
                label = Columns._fields.index("label")
                cells[label] = [_class_name(value, names) for value in cells[label]]
            for values in zip(*cells, strict=True):
                number += 1
                yield Row(f"row {number}", *values)


def _checked(column: pa.Array) -> pa.Array:
    """The column with its strings as bytes, because one that is not UTF-8 would fail all of them.

    Offsets and indices of a damaged file, which would lead out of its buffers, are refused.
    """
    if pa.types.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(column.indices, _checked(column.dictionary)).dictionary_decode()
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
    """Names of a `ClassLabel` column, which `datasets` stores as numbers with the names in the schema's metadata."""
    try:
        described = msgspec.json.decode((schema.metadata or {})[b"huggingface"], type=_HuggingFace)
        feature = msgspec.json.decode(described.info.features[label], type=_Feature)
    except (KeyError, msgspec.DecodeError):
        return None
    return feature.names if feature.type == "ClassLabel" else None


def _class_name(value: object, names: list[str]) -> object:
    """A `ClassLabel` of -1 means that there is no label."""
    if not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None
