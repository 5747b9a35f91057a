"""Rows of written variants, for the table VARIANTS."""

from __future__ import annotations

import pyarrow as pa

from tegakari.schemas.tables import VARIANTS
from tegakari.schemas.variants import VariantsResult
from tegakari.store.column_types import arrow_schema


def variants_rows(result: VariantsResult) -> pa.Table:
    """The table VARIANTS: a row per kind of pairs, k and layer."""
    rows = [
        {"run": result.run, "kind": row.kind, "k": row.k, "layer": of_layer.layer, "survival": of_layer.survival}
        for row in result.rows
        for of_layer in row.layers
    ]
    return pa.Table.from_pylist(rows, schema=arrow_schema(VARIANTS))
