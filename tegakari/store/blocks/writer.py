"""Write the memory-mapped blocks of a run."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

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


class BlocksWriter:
    """Writes the blocks of one run: layer after layer, then `finish`."""

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

    def write_layer(
        self,
        layer: int,
        statistics: dict[str, np.ndarray],
        documents_active: np.ndarray,
        features: pa.Table,
        top_positions: TopPositions,
        shown_tokens: np.ndarray,
    ) -> None:
        """Write one layer; layers come in ascending order.

        Args:
            layer: the layer.
            statistics: `mean`, `sd` and `d`, each float64 [labels, poolings, d_sae]; NaN for features never active.
            documents_active: int32 [labels, poolings, d_sae].
            features: its rows of the features table.
            top_positions: strongest positions of its features.
            shown_tokens: int32 [d_sae, SHOWN_TOKENS]: numbers of token texts, -1 = none.
        """
        layer_places = self._places.slice_of(layer)
        for (statistic, pooling), matrix in self._matrices.items():
            matrix[:, layer_places] = statistics[statistic][:, POOLINGS.index(pooling)]
        for pooling, matrix in self._documents_active.items():
            matrix[:, layer_places] = documents_active[:, POOLINGS.index(pooling)]
        for matrix, values in zip(self._top_positions, top_positions, strict=True):
            matrix[layer_places] = values
        self._shown_tokens[layer_places] = shown_tokens
        self._features.write(_one_batch(features.drop_columns(["top_tokens"])))

    def write_activations(self, layer: int, documents: Strongest, features: Strongest) -> None:
        """Write the strongest documents and features of a layer; layers come in any order.

        Args:
            layer: the layer.
            documents: the TOP_DOCUMENTS strongest documents of each feature.
            features: the TOP_FEATURES strongest features of each document.
        """
        for matrix, values in zip(self._top_documents, documents, strict=True):
            matrix[self._places.slice_of(layer)] = values
        for matrix, values in zip(self._top_features, features, strict=True):
            matrix[self._places.layers.index(layer)] = values

    def label_rows(self, label_id: int) -> dict[str, np.ndarray]:
        """Statistics of one label, as written so far: `mean_head`, `documents_active_head`, ... -> [places]."""
        return {
            **{f"{statistic}_{pooling}": matrix[label_id] for (statistic, pooling), matrix in self._matrices.items()},
            **{
                f"{DOCUMENTS_ACTIVE}_{pooling}": matrix[label_id].astype(np.int32)
                for pooling, matrix in self._documents_active.items()
            },
        }

    def finish(self, pooling: Pooling, documents: pa.Table, token_texts: pa.Array) -> None:
        """Write documents, token texts, and the orders by d of the run's pooling.

        Args:
            pooling: the run's pooling.
            documents: id, label_id, predicted_id, text, token_ids, token_starts, token_ends, in document order.
            token_texts: texts by the numbers of shown tokens.
        """
        n_places = self._places.starts[-1]
        order = self._matrix(ORDER_FILE, np.int32, self._labels, n_places)
        layer_order = self._matrix(LAYER_ORDER_FILE, np.int32, self._labels, n_places)
        ranked = (self._matrices["d", pooling], self._documents_active[pooling], self._matrices["mean", pooling])
        for label_id, columns in enumerate(zip(*ranked, strict=True)):
            order[label_id] = descending_order(*columns)
            for start, end in itertools.pairwise(self._places.starts):
                layer_order[label_id, start:end] = start + descending_order(*(column[start:end] for column in columns))
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
