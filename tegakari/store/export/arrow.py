"""Results of queries as Arrow tables."""

from __future__ import annotations

from collections.abc import Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pyarrow as pa

SCALARS: dict[Any, pa.DataType] = {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
"""Arrow types by Python type; all other types are encoded as text."""


def rows_table(rows: Sequence[Any], row_type: Any, fields: Sequence[str] | None = None) -> pa.Table:
    """Rows of a query as an Arrow table, with the types of the struct, even without rows.

    Args:
        rows: structs.
        row_type: their type.
        fields: only these fields, in this order; None: all.
    """
    hints = get_type_hints(row_type)
    schema = pa.schema([(name, _arrow_type(hints[name])) for name in fields or row_type.__struct_fields__])
    table: pa.Table = pa.Table.from_pylist(msgspec.to_builtins(rows), schema=schema)
    return table


def flat(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with lists and structs encoded as JSON, for formats that have neither."""
    columns = [
        pa.array([None if cell is None else msgspec.json.encode(cell).decode() for cell in column.to_pylist()])
        if pa.types.is_nested(column.type)
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _arrow_type(hint: Any) -> pa.DataType:
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (kind for kind in get_args(hint) if kind is not type(None))
    if get_origin(hint) is list:
        return pa.list_(_arrow_type(get_args(hint)[0]))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return pa.struct([(name, _arrow_type(kind)) for name, kind in get_type_hints(hint).items()])
    return SCALARS.get(hint, pa.string())
