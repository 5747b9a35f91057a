"""Memory-mapped blocks from which the questions that everybody asks all day are answered, without SQL.

Features of all layers are numbered in a row: *place* = first place of the layer + feature. A matrix [labels, places] of
each statistic, and for each label the places in the order of their d, make "the features of a label" a slice and a
gather, at any depth, and "the labels of a feature" a column. The strongest positions and documents of a feature, and
the strongest features of a document, are rows of matrices. The blocks are derived from the same arrays as the tables.
"""

from __future__ import annotations

import itertools
import os
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.store.activations import Strongest
from tegakari.store.layout import HOT

TOP_DOCUMENTS = 50
"""Strongest documents kept of a feature."""

TOP_FEATURES = 20
"""Strongest features kept of a document and layer."""

SHOWN_TOKENS = 5
"""Different tokens that a feature is shown with."""

STATISTICS = ("mean", "sd", "d")
_FEATURES = "features.arrow"
_TOKEN_TEXTS = "token_texts.arrow"
_DOCUMENTS = "documents.arrow"
_ORDER = "order.npy"
_LAYER_ORDER = "layer_order.npy"
_SHOWN_TOKENS = "shown_tokens.npy"


class TopPositions(NamedTuple):
    """The strongest positions of each feature of a layer, strongest first; [d_sae, n], or of one feature [n]."""

    activation: np.ndarray
    """float32; 0 where a feature has no more."""
    document: np.ndarray
    """int32; -1 there."""
    position: np.ndarray
    """int32"""


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


def _top_file(of: str, column: str) -> str:
    return f"top_{of}_{column}s.npy"


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


def _numbers(array: pa.Array) -> np.ndarray:
    """Numbers without nulls, not copied. `to_numpy` would import pandas where it is installed, for half a second."""
    return np.from_dlpack(array)


class Documents(NamedTuple):
    """Documents of a run and their tokens."""

    id: pa.StringArray
    label_id: np.ndarray
    """int32"""
    predicted_id: np.ndarray
    """int32"""
    text: pa.LargeStringArray
    first_token: np.ndarray
    """int32 [documents + 1]: where the tokens of each begin in the arrays below."""
    token_ids: np.ndarray
    """int32"""
    token_starts: np.ndarray
    """int32: first character of each token in its document."""
    token_ends: np.ndarray
    """int32: character after the last."""


class Hot:
    """The mapped blocks of a published run. Threads share it; nothing is ever written.

    Everything is opened at once, so that blocks of two runs never mix.
    """

    def __init__(self, run: Path, places: Places) -> None:
        """Map the blocks.

        Raises:
            OSError, ValueError, pyarrow.ArrowException: a file is missing or its header is damaged.
        """
        self._directory = run / HOT
        self.places = places
        self.statistics = {
            (statistic, pooling): self._map(_statistic_file(statistic, pooling))
            for pooling in POOLINGS
            for statistic in STATISTICS
        }
        """(statistic, pooling) -> float32 [labels, places]; NaN where not defined."""
        self.order = self._map(_ORDER)
        """int32 [labels, places]: places by d of the run's pooling, largest first, undefined at the end."""
        self.layer_order = self._map(_LAYER_ORDER)
        """As `order`, within each layer."""
        self.shown_tokens = self._map(_SHOWN_TOKENS)
        """int32 [places, SHOWN_TOKENS]: numbers of the token texts that a feature is shown with, -1 = no more."""
        self.top_positions = TopPositions(*(self._map(_top_file("token", name)) for name in TopPositions._fields))
        """The strongest positions of each feature, [places, number kept]."""
        self.top_documents = Strongest(*(self._map(_top_file("document", name)) for name in Strongest._fields))
        """The strongest documents of each feature, by the run's pooling, [places, TOP_DOCUMENTS]."""
        self.top_features = Strongest(*(self._map(_top_file("feature", name)) for name in Strongest._fields))
        """The strongest features of each document, [layers, documents, TOP_FEATURES]; layers as in `places`."""
        self.documents = self._documents()
        self._features = self._open(_FEATURES)
        self._token_texts = self._open(_TOKEN_TEXTS)

    def _map(self, name: str) -> np.ndarray:
        # As a plain array: every slice of a memmap costs microseconds more.
        return np.asarray(np.load(self._directory / name, mmap_mode="r"))

    def _open(self, name: str) -> pa.ipc.RecordBatchFileReader:
        return pa.ipc.open_file(pa.memory_map(str(self._directory / name)))

    def _documents(self) -> Documents:
        batch = self._open(_DOCUMENTS).get_batch(0)
        return Documents(
            batch["id"],
            _numbers(batch["label_id"]),
            _numbers(batch["predicted_id"]),
            batch["text"],
            _numbers(batch["token_ids"].offsets),
            *(_numbers(batch[name].values) for name in ("token_ids", "token_starts", "token_ends")),
        )

    @cached_property
    def features(self) -> dict[str, np.ndarray]:
        """Columns of the features table that have no nulls, one entry a place."""
        table = self._features.read_all()
        return {
            field.name: np.concatenate([_numbers(chunk) for chunk in table[field.name].chunks])
            for field in table.schema
            if pa.types.is_primitive(field.type) and not table[field.name].null_count
        }

    @cached_property
    def token_texts(self) -> list[str]:
        """The texts that the numbers of shown tokens stand for."""
        return self._token_texts.get_batch(0)["text"].to_pylist()

    @cached_property
    def _texts_and_none(self) -> np.ndarray:
        """The texts as objects, and None at the end, where number -1 finds it."""
        return np.array([*self.token_texts, None], object)

    def shown_texts(self, places: np.ndarray) -> list[list[str]]:
        """The tokens that features are shown with, strongest first."""
        texts = self._texts_and_none[self.shown_tokens.take(places, axis=0)].tolist()
        return [row if row[-1] is not None else [text for text in row if text is not None] for row in texts]
