"""Write the memory-mapped blocks of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike

from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.store.blocks.activations import Strongest
from tegakari.store.blocks.files import (
    DOCUMENTS_ACTIVE,
    DOCUMENTS_FILE,
    FEATURES_FILE,
    LAYER_ORDER_FILE,
    ORDER_FILE,
    SHOWN_TOKENS,
    SHOWN_TOKENS_FILE,
    STATISTICS,
    TOKEN_TEXTS_FILE,
    TOP_DOCUMENTS,
    TOP_FEATURES,
    Places,
    TopPositions,
    descending_order,
    statistic_file,
    top_file,
)
from tegakari.store.disk.layout import BLOCKS


class StatisticBlocks(NamedTuple):
    """The places of the statistics of one layer and pooling; [labels, d_sae], NaN for undefined statistics."""

    mean: np.ndarray
    """float32"""
    sd: np.ndarray
    """float32"""
    d: np.ndarray
    """float32"""
    documents_active: np.ndarray
    """an unsigned integer type"""


class BlocksWriter:
    """Writes the blocks of one run: its layers, on any thread, then the orders, then `finish`."""

    def __init__(self, run: Path, places: Places, labels: int, documents: int, top_tokens: int) -> None:
        """Create all files and allocate their space.

        Args:
            run: the run's (staging) directory.
            places: numbering of its features.
            labels: number of labels.
            documents: number of documents.
            top_tokens: strongest positions stored per feature.
        """
        self._directory = run / BLOCKS
        self._directory.mkdir(parents=True)
        self._places = places
        self._labels = labels
        n_places = places.starts[-1]
        self._matrices = {
            (statistic, pooling): self._matrix(statistic_file(statistic, pooling), np.float32, labels, n_places)
            for pooling in POOLINGS
            for statistic in STATISTICS
        }
        self._documents_active = {
            pooling: self._matrix(
                statistic_file(DOCUMENTS_ACTIVE, pooling), np.min_scalar_type(documents), labels, n_places
            )
            for pooling in POOLINGS
        }
        self._top_positions = TopPositions(
            self._matrix(top_file("token", "activation"), np.float32, n_places, top_tokens),
            self._matrix(top_file("token", "document"), np.int32, n_places, top_tokens),
            self._matrix(top_file("token", "position"), np.int32, n_places, top_tokens),
        )
        self._top_documents = self._strongest("document", n_places, TOP_DOCUMENTS)
        self._top_features = self._strongest("feature", len(places.layers), documents, TOP_FEATURES)
        self._shown_tokens = self._matrix(SHOWN_TOKENS_FILE, np.int32, n_places, SHOWN_TOKENS)
        self._order = self._matrix(ORDER_FILE, np.int32, labels, n_places)
        self._layer_order = self._matrix(LAYER_ORDER_FILE, np.int32, labels, n_places)
        layers = np.arange(len(places.layers), dtype=np.min_scalar_type(len(places.layers)))
        self._layer_number = np.repeat(layers, places.widths)
        self._features = _BatchFile(self._directory / FEATURES_FILE)

    def _strongest(self, subject: str, *shape: int) -> Strongest:
        return Strongest(
            self._matrix(top_file(subject, "member"), np.int32, *shape),
            self._matrix(top_file(subject, "activation"), np.float32, *shape),
        )

    def _matrix(self, name: str, kind: DTypeLike, *shape: int) -> np.memmap:
        """A file-backed array whose space on the disk is allocated.

        Raises:
            OSError: the disk is full. Without the allocation, a later write to the mapping would kill the process.
        """
        file = self._directory / name
        matrix = np.lib.format.open_memmap(file, mode="w+", dtype=kind, shape=shape)
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
        return matrix

    def label_statistics(self, layer: int, pooling: Pooling) -> StatisticBlocks:
        """The places of the statistics of a layer, to be written to."""
        places = self._places.slice_of(layer)
        mean, sd, d = (np.asarray(self._matrices[statistic, pooling])[:, places] for statistic in STATISTICS)
        return StatisticBlocks(mean, sd, d, np.asarray(self._documents_active[pooling])[:, places])

    def write_top_positions(self, layer: int, positions: TopPositions) -> None:
        """Write the strongest positions of the features of a layer."""
        for matrix, values in zip(self._top_positions, positions, strict=True):
            matrix[self._places.slice_of(layer)] = values

    def write_top_documents(self, layer: int, documents: Strongest) -> None:
        """Write the TOP_DOCUMENTS strongest documents of each feature of a layer."""
        for matrix, values in zip(self._top_documents, documents, strict=True):
            matrix[self._places.slice_of(layer)] = values

    def write_top_features(self, layer: int, documents: np.ndarray, features: Strongest) -> None:
        """Write the TOP_FEATURES strongest features of some documents in a layer.

        Args:
            layer: the layer.
            documents: int32 [D], numbers of the documents.
            features: [D, TOP_FEATURES].
        """
        for matrix, values in zip(self._top_features, features, strict=True):
            matrix[self._places.layers.index(layer), documents] = values

    def append_features(self, layer: int, features: pa.Table, shown_tokens: np.ndarray) -> None:
        """Append the features of a layer; layers come in ascending order.

        Args:
            layer: the layer.
            features: its rows of the features table.
            shown_tokens: int32 [d_sae, SHOWN_TOKENS]: numbers of token texts, -1 = none.
        """
        self._shown_tokens[self._places.slice_of(layer)] = shown_tokens
        self._features.write(_one_batch(features.drop_columns(["top_tokens"])))

    def label_rows(self, label_id: int) -> dict[str, np.ndarray]:
        """Statistics of one label, as written so far: `mean_head`, `documents_active_head`, ... -> [places]."""
        return {
            **{f"{statistic}_{pooling}": matrix[label_id] for (statistic, pooling), matrix in self._matrices.items()},
            **{
                f"{DOCUMENTS_ACTIVE}_{pooling}": matrix[label_id].astype(np.int32)
                for pooling, matrix in self._documents_active.items()
            },
        }

    def write_order(self, pooling: Pooling, label_id: int) -> None:
        """Write the places in the order of a label's d, over all layers and within each; after all layers.

        Args:
            pooling: the run's pooling.
            label_id: the label.
        """
        ranked = self._matrices["d", pooling], self._documents_active[pooling], self._matrices["mean", pooling]
        order = descending_order(*(np.asarray(matrix[label_id]) for matrix in ranked))
        self._order[label_id] = order
        self._layer_order[label_id] = order[np.argsort(self._layer_number[order], kind="stable")]

    def finish(self, documents: pa.Table, token_texts: pa.Array) -> None:
        """Write documents and token texts; the last call.

        Args:
            documents: id, label_id, predicted_id, text, token_ids, token_starts, token_ends, in document order.
            token_texts: texts by the numbers of shown tokens.
        """
        self._features.close()
        for name, table in ((DOCUMENTS_FILE, documents), (TOKEN_TEXTS_FILE, pa.table({"text": token_texts}))):
            file = _BatchFile(self._directory / name)
            file.write(_one_batch(table))
            file.close()


class _BatchFile:
    """An Arrow IPC file whose schema is that of its first batch."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        if self._writer is None:
            self._writer = pa.ipc.new_file(str(self._path), batch.schema)
        self._writer.write_batch(batch)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
