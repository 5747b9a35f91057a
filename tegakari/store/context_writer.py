"""Files of contexts and probes, in the directory of a run or of its additions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tegakari.schemas.tables import CONTEXTS, PROBES
from tegakari.store.blocks.activations import rounded
from tegakari.store.blocks.npy_file import NpyFile
from tegakari.store.blocks.row_groups import row_groups
from tegakari.store.column_types import arrow_schema
from tegakari.store.contexts import WINDOW_TOKENS, LayerContexts, Probes
from tegakari.store.disk.layout import context_file, probe_bits_file, probes_file

ROW_GROUP = 2**13
"""Rows per row group: what a query for one feature reads."""


def write_contexts(directory: Path, layer: int, parts: Iterable[LayerContexts]) -> int:
    """Write the contexts of a layer; activations are rounded here. Returns their number.

    Args:
        directory: of a run or of its additions.
        layer: the layer.
        parts: by (feature, quantile, rank), one range of features after the other.
    """
    file = context_file(directory, layer)
    file.parent.mkdir(parents=True, exist_ok=True)
    schema = arrow_schema(CONTEXTS)
    rows = 0
    with pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        use_dictionary=False,
        # Numbers of documents and positions need few bits; floats compress byte by byte.
        column_encoding={
            "feature": "PLAIN",
            "quantile": "PLAIN",
            "rank": "PLAIN",
            "document": "DELTA_BINARY_PACKED",
            "position": "DELTA_BINARY_PACKED",
            "start": "DELTA_BINARY_PACKED",
            "activation": "BYTE_STREAM_SPLIT",
            "activations.list.element": "BYTE_STREAM_SPLIT",
        },
        write_page_checksum=True,
    ) as writer:
        for group in row_groups((_rows(part, schema) for part in parts), schema, ROW_GROUP):
            writer.write_table(group, row_group_size=ROW_GROUP)
            rows += len(group)
    return rows


def _rows(part: LayerContexts, schema: pa.Schema) -> pa.Table:
    contexts = part.contexts
    inside = np.arange(WINDOW_TOKENS) < contexts.length[:, None]
    offsets = np.concatenate([[0], np.cumsum(contexts.length)]).astype(np.int32)
    windows = pa.ListArray.from_arrays(offsets, _rounded(contexts.activations[inside]))
    return pa.table(
        [
            part.feature,
            contexts.quantile,
            contexts.rank,
            contexts.document,
            contexts.position,
            _rounded(contexts.activation),
            contexts.start,
            windows,
        ],
        schema=schema,
    )


def _rounded(activation: np.ndarray) -> np.ndarray:
    """Activations as stored; 0 stays 0."""
    return np.where(activation > 0, rounded(activation), np.float32(0))


def write_probes(directory: Path, probes: Probes) -> None:
    """Write the list of probes."""
    file = probes_file(directory)
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(list(probes), schema=arrow_schema(PROBES)), file, write_page_checksum=True)


def write_probe_bits(directory: Path, layer: int, parts: Iterable[np.ndarray], shape: tuple[int, int]) -> None:
    """Write in which probes the features of a layer are active.

    Args:
        directory: of a run or of its additions.
        layer: the layer.
        parts: bool [features, P], one range of features after the other.
        shape: d_sae and P.
    """
    file = probe_bits_file(directory, layer)
    file.parent.mkdir(parents=True, exist_ok=True)
    d_sae, probes = shape
    with NpyFile(file, np.uint8, d_sae, -(-probes // 8)) as bits:
        for active in parts:
            bits.append(np.packbits(active, axis=1))
