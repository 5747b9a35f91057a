"""Rows in groups of equal size, so that a file does not depend on the parts in which its rows were computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa


def row_groups(parts: Iterable[pa.Table], schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """Divide consecutive rows into groups.

    Args:
        parts: consecutive rows, in tables of any size.
        schema: of the tables.
        rows: per group; the last may have fewer. Without any row, there is one group without rows.
    """
    rest = schema.empty_table()
    is_first = True
    for part in parts:
        joined = pa.concat_tables([rest, part]) if len(rest) else part
        whole = len(joined) - len(joined) % rows
        for start in range(0, whole, rows):
            yield joined.slice(start, rows).combine_chunks()
            is_first = False
        rest = joined.slice(whole).combine_chunks()
    if len(rest) or is_first:
        yield rest
