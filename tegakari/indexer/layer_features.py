"""First part of the merge of a layer: statistics of its features, their strongest positions, and their tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa

from tegakari.indexer.array_file import StoredArray
from tegakari.indexer.feature_ranges import equal_ranges
from tegakari.indexer.layer_files import SUMMARY, LayerArrays, LayerInputs
from tegakari.indexer.layer_statistics import (
    LABEL_BYTES,
    LayerStatistics,
    joined,
    range_statistics,
    stored_types,
)
from tegakari.indexer.layer_sums import SUMS_BYTES, layer_sums
from tegakari.indexer.layer_tables import feature_rows, shown_texts, specificity_rows, top_token_rows
from tegakari.indexer.top_positions import TOKEN_BYTES, strongest_positions, top_tokens
from tegakari.schemas import tables
from tegakari.schemas.tables import Table
from tegakari.store.blocks.files import TopPositions
from tegakari.store.column_types import arrow_schema

TOP_TOKEN = "top_token"
"""Subject of the arrays of strongest positions."""

_BATCH = 122_880
"""Rows per batch of a table: those that DuckDB compresses as one unit."""


class FeaturesSummary(msgspec.Struct, frozen=True):
    """Content of layer.json."""

    outliers: int
    """positions that are norm outliers, which no other figure includes."""
    specific: list[int]
    """as of `LayerStatistics`, as the next."""
    shared: list[int]
    arrays: dict[str, StoredArray]


def write_features(inputs: LayerInputs, directory: Path) -> None:
    """Write arrays, tables and, as the last file, the summary."""
    layer, d_sae, n = inputs.layer, inputs.d_sae, inputs.settings.top_tokens
    arrays = LayerArrays(
        directory,
        {name: (kind, (inputs.labels, d_sae)) for name, kind in stored_types(inputs.documents).items()}
        | {f"{TOP_TOKEN}.{name}": (kind, (d_sae, n)) for name, kind in TopPositions.types().items()},
    )
    statistics = _write_statistics(inputs, arrays)
    strongest = strongest_positions(inputs.partials, layer, d_sae, n, inputs.corpus, inputs.memory)
    arrays.write_rows(TOP_TOKEN, 0, strongest._asdict())
    outliers = sum(partial.outliers(layer) for partial in inputs.partials)
    _write_tables(inputs, directory, statistics, strongest, outliers)
    summary = FeaturesSummary(outliers, statistics.specific.tolist(), statistics.shared.tolist(), arrays.places)
    (directory / SUMMARY).write_bytes(msgspec.json.encode(summary))


def _write_statistics(inputs: LayerInputs, arrays: LayerArrays) -> LayerStatistics:
    parts = []
    most = max(len(partial.summary.labels) for partial in inputs.partials)  # labels of a shard
    feature_bytes = inputs.labels * LABEL_BYTES + most * SUMS_BYTES
    for start, stop in equal_ranges(inputs.d_sae, inputs.memory // feature_bytes):
        sums = layer_sums(inputs.layer, start, stop, inputs.partials, inputs.labels)
        statistics, stored = range_statistics(sums, inputs.settings)
        arrays.write_columns(start, stored)
        parts.append(statistics)
    return joined(parts)


def _write_tables(
    inputs: LayerInputs, directory: Path, statistics: LayerStatistics, strongest: TopPositions, outliers: int
) -> None:
    layer, settings = inputs.layer, inputs.settings
    shown: list[pa.Array] = []

    def top_token_tables() -> Iterator[pa.Table]:
        for start, stop in equal_ranges(inputs.d_sae, inputs.memory // (settings.top_tokens * TOKEN_BYTES)):
            positions = TopPositions(*(column[start:stop] for column in strongest))
            tokens = top_tokens(inputs.partials, inputs.corpus, positions)
            shown.append(shown_texts(tokens))
            yield top_token_rows(layer, start, positions, tokens)

    _write_table(directory, tables.TOP_TOKENS, top_token_tables())
    positions = sum(partial.summary.positions for partial in inputs.partials) - outliers
    features = feature_rows(layer, statistics, strongest.activation[:, 0], pa.concat_arrays(shown), positions, settings)
    _write_table(directory, tables.FEATURES, [features])
    _write_table(directory, tables.SPECIFICITY, [specificity_rows(layer, statistics.variety, settings)])


def _write_table(directory: Path, table: Table, parts: Iterable[pa.Table]) -> None:
    schema = arrow_schema(table)
    with pa.OSFile(str(directory / table_file(table)), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for part in parts:
            stream.write_table(part.cast(schema), max_chunksize=_BATCH)


def table_file(table: Table) -> str:
    """Name of the file with the rows of a table."""
    return f"{table.name}.arrow"
