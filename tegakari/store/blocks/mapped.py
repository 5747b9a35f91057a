"""The memory-mapped blocks of a run: most queries are slices and gathers of them, without SQL.

A run may come from someone else, so that nothing in a file is taken for granted. Types, shapes and Arrow's offsets,
which its library follows wherever they lead, are checked when a file is opened. The numbers of places, documents and
tokens in the matrices, which may be larger than memory, are checked where a query gathers by them (`check_numbers`).
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tegakari.schemas.config import POOLINGS
from tegakari.schemas.errors import StoreError
from tegakari.schemas.run import RunManifest
from tegakari.schemas.tables import FEATURES
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
    statistic_file,
    top_file,
)
from tegakari.store.column_types import arrow_schema
from tegakari.store.disk.layout import BLOCKS

_NUMBERS = pa.list_(pa.int32())

DOCUMENTS_SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "label_id": pa.int32(),
        "predicted_id": pa.int32(),
        "text": pa.large_string(),
        "token_ids": _NUMBERS,
        "token_starts": _NUMBERS,
        "token_ends": _NUMBERS,
    }
)
TOKEN_TEXTS_SCHEMA = pa.schema({"text": pa.string()})
FEATURES_SCHEMA = pa.schema([field for field in arrow_schema(FEATURES) if not pa.types.is_nested(field.type)])

_WITH_NULLS = ("best_label_id", "best_d", "best_documents_active")
"""Columns of the features that are null where they are not defined."""


def _numbers(array: pa.Array) -> np.ndarray:
    """Numbers without nulls, not copied. `to_numpy` would import pandas where it is installed, for half a second."""
    return np.from_dlpack(array)


def _column(column: pa.ChunkedArray) -> np.ndarray:
    """Numbers of a column without nulls."""
    return np.concatenate([_numbers(chunk) for chunk in column.chunks])


class Documents(NamedTuple):
    """Documents of a run and their tokens."""

    id: pa.StringArray
    label_id: np.ndarray
    """int32"""
    predicted_id: np.ndarray
    """int32"""
    text: pa.LargeStringArray
    first_token: np.ndarray
    """int32 [documents + 1]: index of each document's first token in the arrays below."""
    token_ids: np.ndarray
    """int32"""
    token_starts: np.ndarray
    """int32: first character of each token in its document."""
    token_ends: np.ndarray
    """int32: character after the last."""


class Blocks:
    """The mapped blocks of a published run. Read-only, safe to share between threads.

    All files are opened at once, so that blocks of two runs never mix.
    """

    def __init__(self, run: Path, manifest: RunManifest) -> None:
        """Map the blocks.

        Raises:
            OSError, ValueError, pyarrow.ArrowException: a file is missing, damaged, or not of such a run.
        """
        self._directory = run / BLOCKS
        self._run = manifest.run
        self.places = places = Places(manifest.saes.layers, manifest.saes.widths)
        n_places, labels, n_documents = places.starts[-1], manifest.corpus.labels, manifest.corpus.documents
        self.statistics = {
            (statistic, pooling): self._map(statistic_file(statistic, pooling), np.float32, labels, n_places)
            for pooling in POOLINGS
            for statistic in STATISTICS
        }
        """(statistic, pooling) -> float32 [labels, places]; NaN where undefined."""
        counts = np.min_scalar_type(n_documents).type
        self.documents_active = {
            pooling: self._map(statistic_file(DOCUMENTS_ACTIVE, pooling), counts, labels, n_places)
            for pooling in POOLINGS
        }
        """pooling -> unsigned int [labels, places]: documents of each label in which each feature is active."""
        self.order = self._map(ORDER_FILE, np.int32, labels, n_places)
        """int32 [labels, places]: places in `descending_order` of the run's pooling."""
        self.layer_order = self._map(LAYER_ORDER_FILE, np.int32, labels, n_places)
        """As `order`, within each layer."""
        self.shown_tokens = self._map(SHOWN_TOKENS_FILE, np.int32, n_places, SHOWN_TOKENS)
        """int32 [places, SHOWN_TOKENS]: numbers of the token texts to display for a feature, -1 = none."""
        self.top_positions = TopPositions(
            *(
                self._map(top_file("token", name), kind, n_places, manifest.top_tokens)
                for name, kind in zip(TopPositions._fields, (np.float32, np.int32, np.int32), strict=True)
            )
        )
        """The strongest positions of each feature, [places, the run's top_tokens]."""
        self.top_documents = self._strongest("document", n_places, TOP_DOCUMENTS)
        """The strongest documents of each feature, by the run's pooling, [places, TOP_DOCUMENTS]."""
        self.top_features = self._strongest("feature", len(places.layers), n_documents, TOP_FEATURES)
        """The strongest features of each document, [layers, documents, TOP_FEATURES]; layers as in `places`."""
        self.documents = self._documents(n_documents, labels)
        self._features = self._table(FEATURES_FILE, FEATURES_SCHEMA)
        self._token_texts = self._table(TOKEN_TEXTS_FILE, TOKEN_TEXTS_SCHEMA)
        self._check_features()

    def _map(self, name: str, kind: type, *shape: int) -> np.ndarray:
        # As a plain array: every slice of a memmap costs microseconds more.
        matrix = np.asarray(np.load(self._directory / name, mmap_mode="r"))
        if matrix.dtype != kind or matrix.shape != shape or not matrix.flags.c_contiguous:
            raise ValueError(f"{name} is {matrix.dtype} {matrix.shape}, not {kind.__name__} {shape}")
        return matrix

    def _strongest(self, subject: str, *shape: int) -> Strongest:
        return Strongest(
            self._map(top_file(subject, "member"), np.int32, *shape),
            self._map(top_file(subject, "activation"), np.float32, *shape),
        )

    def _table(self, name: str, schema: pa.Schema) -> pa.Table:
        """The mapped columns of an Arrow file; all their offsets and characters are checked."""
        with pa.ipc.open_file(pa.memory_map(str(self._directory / name))) as reader:
            if not reader.schema.equals(schema):
                raise ValueError(f"{name} has other columns or types")
            table = reader.read_all()
        table.validate(full=True)
        nulls = [field.name for field in schema if table[field.name].null_count and field.name not in _WITH_NULLS]
        if nulls:
            raise ValueError(f"{name} has no value in column {nulls[0]}")
        return table

    def _documents(self, documents: int, labels: int) -> Documents:
        table = self._table(DOCUMENTS_FILE, DOCUMENTS_SCHEMA)
        batches = table.to_batches()
        if len(table) != documents or len(batches) > 1:
            raise ValueError(f"{DOCUMENTS_FILE} has {len(table)} documents, not {documents}")
        batch = batches[0] if batches else pa.RecordBatch.from_pylist([], schema=DOCUMENTS_SCHEMA)
        tokens = [batch[name] for name in ("token_ids", "token_starts", "token_ends")]
        first_token = _numbers(tokens[0].offsets)
        if any(not np.array_equal(first_token, _numbers(column.offsets)) for column in tokens):
            raise ValueError(f"{DOCUMENTS_FILE} has different numbers of token ids and token positions")
        label_id, predicted_id = _numbers(batch["label_id"]), _numbers(batch["predicted_id"])
        self.check_numbers(DOCUMENTS_FILE, label_id, labels)
        self.check_numbers(DOCUMENTS_FILE, predicted_id, labels)
        values = (_numbers(column.values) for column in tokens)
        return Documents(batch["id"], label_id, predicted_id, batch["text"], first_token, *values)

    def _check_features(self) -> None:
        layers, widths = self.places.layers, self.places.widths
        expected = np.repeat(np.array(layers, np.int32), widths), np.concatenate([np.arange(width) for width in widths])
        if len(self._features) != self.places.starts[-1] or not all(
            np.array_equal(_column(self._features[name]), numbers)
            for name, numbers in zip(("layer", "feature"), expected, strict=True)
        ):
            raise ValueError(f"{FEATURES_FILE} has other features than the run")

    def check_numbers(self, name: str, numbers: np.ndarray, size: int, *, first: int = 0) -> None:
        """Check numbers that a query is about to gather by: NumPy would count negative ones from the end.

        Args:
            name: of the file that they come from.
            numbers: int32.
            size: number of elements that they count.
            first: smallest number that is allowed.

        Raises:
            StoreError: one is smaller than `first`, or not below `first + size`.
        """
        shifted = numbers - np.int32(first) if first else numbers
        # As unsigned numbers, negative ones are the largest: one comparison instead of two.
        if shifted.size and shifted.view(np.uint32).max() >= size:
            raise StoreError(
                f"run {self._run!r} could not be read: {name} has numbers outside of {first} to {first + size - 1}",
                field="run",
                fix=f"`tegakari runs verify {self._run}` names the damaged file",
            )

    @cached_property
    def features(self) -> dict[str, np.ndarray]:
        """Columns of the features table without nulls, one value per place."""
        columns = [(name, self._features[name]) for name in self._features.schema.names]
        return {name: _column(column) for name, column in columns if not column.null_count}

    @cached_property
    def token_texts(self) -> list[str]:
        """Texts by the numbers in `shown_tokens`."""
        return self._token_texts["text"].to_pylist()

    @cached_property
    def _texts_and_none(self) -> np.ndarray:
        """`token_texts`, then None, so that number -1 selects None."""
        return np.array([*self.token_texts, None], object)

    def shown_texts(self, places: np.ndarray) -> list[list[str]]:
        """Token texts to display for features, strongest first."""
        numbers = self.shown_tokens.take(places, axis=0)
        self.check_numbers(SHOWN_TOKENS_FILE, numbers, len(self._texts_and_none), first=-1)
        texts = self._texts_and_none[numbers].tolist()
        return [row if row[-1] is not None else [text for text in row if text is not None] for row in texts]
