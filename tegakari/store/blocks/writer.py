"""Write the memory-mapped blocks of a run."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pyarrow as pa

from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.store.blocks.activations import Strongest
from tegakari.store.blocks.blocks import (
    _DOCUMENTS,
    _FEATURES,
    _LAYER_ORDER,
    _ORDER,
    _SHOWN_TOKENS,
    _TOKEN_TEXTS,
    SHOWN_TOKENS,
    STATISTICS,
    TOP_DOCUMENTS,
    TOP_FEATURES,
    Places,
    TopPositions,
    _statistic_file,
    _top_file,
    by_descending,
)
from tegakari.store.disk.layout import HOT


class BlocksWriter:
    """Writes the blocks of one run, layer after layer, then `finish`."""

    def __init__(self, run: Path, places: Places, labels: int, documents: int, top_tokens: int) -> None:
        """Take the space of all blocks.

        Args:
            run: the run's (staging) directory.
            places: its features.
            labels: number of labels.
            documents: number of documents.
            top_tokens: strongest positions kept of a feature.
        """
        self._directory = run / HOT
        self._directory.mkdir(parents=True)
        self._places = places
        self._labels = labels
        every_place = places.starts[-1]
        self._matrices = {
            (statistic, pooling): self._matrix(_statistic_file(statistic, pooling), np.float32, labels, every_place)
            for pooling in POOLINGS
            for statistic in STATISTICS
        }
        self._top_positions = TopPositions(
            self._matrix(_top_file("token", "activation"), np.float32, every_place, top_tokens),
            self._matrix(_top_file("token", "document"), np.int32, every_place, top_tokens),
            self._matrix(_top_file("token", "position"), np.int32, every_place, top_tokens),
        )
        self._top_documents = self._strongest("document", every_place, TOP_DOCUMENTS)
        self._top_features = self._strongest("feature", len(places.layers), documents, TOP_FEATURES)
        self._shown_tokens = self._matrix(_SHOWN_TOKENS, np.int32, every_place, SHOWN_TOKENS)
        self._features = _BatchFile(self._directory / _FEATURES)

    def _strongest(self, member: str, *shape: int) -> Strongest:
        return Strongest(
            self._matrix(_top_file(member, "member"), np.int32, *shape),
            self._matrix(_top_file(member, "activation"), np.float32, *shape),
        )

    def _matrix(self, name: str, kind: type, *shape: int) -> np.memmap:
        """A file-backed array whose space is taken beforehand.

        Raises:
            OSError: the disk is full. Without the space, a later write to the mapping would kill the process.
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
        features: pa.Table,
        top_positions: TopPositions,
        shown_tokens: np.ndarray,
    ) -> None:
        """Write one layer; layers come in ascending order.

        Args:
            layer: the layer.
            statistics: `mean`, `sd` and `d`, each float64 [labels, poolings, d_sae]; NaN for features never active.
            features: its rows of the features table.
            top_positions: of its features.
            shown_tokens: int32 [d_sae, SHOWN_TOKENS]: numbers of token texts, -1 = no more.
        """
        where = self._places.slice_of(layer)
        for (statistic, pooling), matrix in self._matrices.items():
            matrix[:, where] = statistics[statistic][:, POOLINGS.index(pooling)]
        for matrix, values in zip(self._top_positions, top_positions, strict=True):
            matrix[where] = values
        self._shown_tokens[where] = shown_tokens
        self._features.write(_one_batch(features.drop_columns(["top_tokens"])))

    def write_activations(self, layer: int, documents: Strongest, features: Strongest) -> None:
        """Write where a layer is strongest; layers come in any order.

        Args:
            layer: the layer.
            documents: the TOP_DOCUMENTS strongest of each feature.
            features: the TOP_FEATURES strongest of each document.
        """
        for matrix, values in zip(self._top_documents, documents, strict=True):
            matrix[self._places.slice_of(layer)] = values
        for matrix, values in zip(self._top_features, features, strict=True):
            matrix[self._places.layers.index(layer)] = values

    def label_rows(self, label_id: int) -> dict[str, np.ndarray]:
        """What was written for one label: `mean_last`, ... -> float32 [places]."""
        return {f"{statistic}_{pooling}": matrix[label_id] for (statistic, pooling), matrix in self._matrices.items()}

    def finish(self, pooling: Pooling, documents: pa.Table, token_texts: pa.Array) -> None:
        """Write what is known at the end, and the orders by d of the run's pooling.

        Args:
            pooling: the run's.
            documents: id, label_id, predicted_id, text, token_ids, token_starts, token_ends, in document order.
            token_texts: what the numbers of shown tokens stand for.
        """
        every_place = self._places.starts[-1]
        order = self._matrix(_ORDER, np.int32, self._labels, every_place)
        layer_order = self._matrix(_LAYER_ORDER, np.int32, self._labels, every_place)
        for label_id, d in enumerate(self._matrices["d", pooling]):
            order[label_id] = by_descending(d)
            for start, end in itertools.pairwise(self._places.starts):
                layer_order[label_id, start:end] = start + by_descending(d[start:end])
        self._features.close()
        for name, table in ((_DOCUMENTS, documents), (_TOKEN_TEXTS, pa.table({"text": token_texts}))):
            file = _BatchFile(self._directory / name)
            file.write(_one_batch(table))
            file.close()


class _BatchFile:
    """An Arrow IPC file that takes its schema from its first batch."""

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
