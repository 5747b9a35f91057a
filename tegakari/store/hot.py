"""Memory-mapped blocks from which the questions that everybody asks all day are answered, without SQL.

Features of all layers are numbered in a row: *place* = first place of the layer + feature. A matrix [labels, places] of
each statistic, and for each label the places in the order of their d, make "the features of a label" a slice and a
gather, at any depth, and "the labels of a feature" a column. The blocks are derived from the same arrays as the tables.
"""

from __future__ import annotations

import itertools
import os
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.store.layout import HOT

STATISTICS = ("mean", "sd", "d")
_FEATURES = "features.arrow"
_TOP_TOKENS = "top_tokens.arrow"
_DOCUMENTS = "documents.arrow"
_ORDER = "order.npy"
_LAYER_ORDER = "layer_order.npy"


class Places(NamedTuple):
    """How the features of all layers are numbered in a row."""

    layers: list[int]
    """indexed layers, ascending."""
    widths: list[int]
    """features of each."""

    @property
    def starts(self) -> list[int]:
        """First place of each layer, and the number of places at the end."""
        return [0, *np.cumsum(self.widths).tolist()]

    def slice_of(self, layer: int) -> slice:
        at = self.layers.index(layer)
        return slice(self.starts[at], self.starts[at + 1])


def _statistic_file(statistic: str, pooling: Pooling) -> str:
    return f"{statistic}_{pooling}.npy"


class HotWriter:
    """Writes the blocks of one run, layer after layer, then `finish`."""

    def __init__(self, run: Path, places: Places, labels: int) -> None:
        self._directory = run / HOT
        self._directory.mkdir(parents=True)
        self._places = places
        self._labels = labels
        self._matrices = {
            (statistic, pooling): self._matrix(_statistic_file(statistic, pooling), np.float32)
            for pooling in POOLINGS
            for statistic in STATISTICS
        }
        self._features = _BatchFile(self._directory / _FEATURES)
        self._top_tokens = _BatchFile(self._directory / _TOP_TOKENS)

    def _matrix(self, name: str, kind: type) -> np.memmap:
        """A file-backed [labels, places] array whose space is taken beforehand.

        Raises:
            OSError: the disk is full. Without the space, a later write to the mapping would kill the process.
        """
        file = self._directory / name
        shape = (self._labels, self._places.starts[-1])
        matrix = np.lib.format.open_memmap(file, mode="w+", dtype=kind, shape=shape)
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
        return matrix

    def write_layer(
        self, layer: int, statistics: dict[str, np.ndarray], features: pa.Table, top_tokens: pa.Table
    ) -> None:
        """Write one layer; layers come in ascending order.

        Args:
            layer: the layer.
            statistics: `mean`, `sd` and `d`, each float64 [labels, poolings, d_sae]; NaN for features never active.
            features: its rows of the features table.
            top_tokens: its rows of the top_tokens table.
        """
        where = self._places.slice_of(layer)
        for (statistic, pooling), matrix in self._matrices.items():
            matrix[:, where] = statistics[statistic][:, POOLINGS.index(pooling)]
        number = np.bincount(top_tokens["feature"].to_numpy(), minlength=features.num_rows).astype(np.int32)
        features = features.append_column("top_tokens_number", pa.array(number))
        self._features.write(_one_batch(features))
        self._top_tokens.write(_one_batch(top_tokens.drop_columns(["layer", "feature", "rank"])))

    def label_rows(self, label_id: int) -> dict[str, np.ndarray]:
        """What was written for one label: `mean_last`, ... -> float32 [places]."""
        return {f"{statistic}_{pooling}": matrix[label_id] for (statistic, pooling), matrix in self._matrices.items()}

    def finish(self, pooling: Pooling, documents: pa.Table) -> None:
        """Write the orders by d of the run's pooling, and the documents' id, label_id and text in document order."""
        order = self._matrix(_ORDER, np.int32)
        layer_order = self._matrix(_LAYER_ORDER, np.int32)
        starts = self._places.starts
        for label_id, d in enumerate(self._matrices["d", pooling]):
            order[label_id] = by_descending(d)
            for start, end in itertools.pairwise(starts):
                layer_order[label_id, start:end] = start + by_descending(d[start:end])
        self._features.close()
        self._top_tokens.close()
        texts = _BatchFile(self._directory / _DOCUMENTS)
        texts.write(_one_batch(documents))
        texts.close()


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


def by_descending(d: np.ndarray) -> np.ndarray:
    """Indices by d, largest first; equal d by index; undefined d at the end. int32."""
    return np.argsort(np.where(np.isnan(d), np.inf, -d), kind="stable").astype(np.int32)


class Hot:
    """The mapped blocks of a published run. Threads share it; nothing is ever written."""

    def __init__(self, run: Path, places: Places) -> None:
        self._directory = run / HOT
        self.places = places

    @cached_property
    def statistics(self) -> dict[tuple[str, str], np.ndarray]:
        """(statistic, pooling) -> float32 [labels, places]; NaN where not defined."""
        return {
            (statistic, pooling): np.load(self._directory / _statistic_file(statistic, pooling), mmap_mode="r")
            for pooling in POOLINGS
            for statistic in STATISTICS
        }

    @cached_property
    def order(self) -> np.ndarray:
        """int32 [labels, places]: places by d of the run's pooling, largest first, undefined at the end."""
        return np.load(self._directory / _ORDER, mmap_mode="r")

    @cached_property
    def layer_order(self) -> np.ndarray:
        """As `order`, within each layer."""
        return np.load(self._directory / _LAYER_ORDER, mmap_mode="r")

    @cached_property
    def features(self) -> dict[str, np.ndarray]:
        """Columns of the features table that have no nulls, one entry a place.

        `first_top_token` is the row of a feature's strongest position in its layer's batch of top tokens.
        """
        table = self._feature_table
        columns = {
            field.name: table[field.name].to_numpy()
            for field in table.schema
            if pa.types.is_primitive(field.type) and not table[field.name].null_count
        }
        number = columns["top_tokens_number"].astype(np.int64)
        starts = self.places.starts
        first = [np.cumsum(number[a:b]) - number[a:b] for a, b in itertools.pairwise(starts)]
        return {**columns, "first_top_token": np.concatenate(first)}

    @cached_property
    def shown_tokens(self) -> pa.ListArray:
        """The tokens that the features table names for each place."""
        return self._feature_table["top_tokens"].combine_chunks()

    @cached_property
    def _feature_table(self) -> pa.Table:
        return self._open(_FEATURES).read_all()

    def top_tokens(self, layer: int, feature: int, n: int) -> list[dict[str, Any]]:
        """The n strongest positions of a feature, as rows of the top_tokens table without their key."""
        at = self.places.layers.index(layer)
        place = self.places.starts[at] + feature
        first = int(self.features["first_top_token"][place])
        number = min(n, int(self.features["top_tokens_number"][place]))
        return self._top_token_batches[at].slice(first, number).to_pylist()

    @cached_property
    def _top_token_batches(self) -> list[pa.RecordBatch]:
        reader = self._open(_TOP_TOKENS)
        return [reader.get_batch(index) for index in range(reader.num_record_batches)]

    @cached_property
    def documents(self) -> pa.RecordBatch:
        """id, label_id and text of every document."""
        return self._open(_DOCUMENTS).get_batch(0)

    def _open(self, name: str) -> pa.ipc.RecordBatchFileReader:
        return pa.ipc.open_file(pa.memory_map(str(self._directory / name)))
