"""Memory-mapped blocks from which the questions that everybody asks all day are answered, without SQL.

Features of all layers are numbered in a row: *place* = first place of the layer + feature. A matrix [labels, places] of
each statistic, and for each label the places in the order of their d, make "the features of a label" a slice and a
gather, at any depth, and "the labels of a feature" a column. The strongest positions and documents of a feature, and
the strongest features of a document, are rows of matrices. The blocks are derived from the same arrays as the tables.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.store.blocks.activations import Strongest
from tegakari.store.disk.layout import HOT

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


def _top_file(of: str, column: str) -> str:
    return f"top_{of}_{column}s.npy"


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


class Blocks:
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
