"""The memory-mapped blocks of a run: most queries are slices and gathers of them, without SQL."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tegakari.schemas.config import POOLINGS
from tegakari.store.blocks.activations import Strongest
from tegakari.store.blocks.files import (
    DOCUMENTS_ACTIVE,
    DOCUMENTS_FILE,
    FEATURES_FILE,
    LAYER_ORDER_FILE,
    ORDER_FILE,
    SHOWN_TOKENS_FILE,
    STATISTICS,
    TOKEN_TEXTS_FILE,
    Places,
    TopPositions,
    statistic_file,
    top_file,
)
from tegakari.store.disk.layout import BLOCKS


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

    def __init__(self, run: Path, places: Places) -> None:
        """Map the blocks.

        Raises:
            OSError, ValueError, pyarrow.ArrowException: a file is missing or its header is damaged.
        """
        self._directory = run / BLOCKS
        self.places = places
        self.statistics = {
            (statistic, pooling): self._map(statistic_file(statistic, pooling))
            for pooling in POOLINGS
            for statistic in STATISTICS
        }
        """(statistic, pooling) -> float32 [labels, places]; NaN where undefined."""
        self.documents_active = {pooling: self._map(statistic_file(DOCUMENTS_ACTIVE, pooling)) for pooling in POOLINGS}
        """pooling -> unsigned int [labels, places]: documents of each label in which each feature is active."""
        self.order = self._map(ORDER_FILE)
        """int32 [labels, places]: places in `descending_order` of the run's pooling."""
        self.layer_order = self._map(LAYER_ORDER_FILE)
        """As `order`, within each layer."""
        self.shown_tokens = self._map(SHOWN_TOKENS_FILE)
        """int32 [places, SHOWN_TOKENS]: numbers of the token texts to display for a feature, -1 = none."""
        self.top_positions = TopPositions(*(self._map(top_file("token", name)) for name in TopPositions._fields))
        """The strongest positions of each feature, [places, the run's top_tokens]."""
        self.top_documents = Strongest(*(self._map(top_file("document", name)) for name in Strongest._fields))
        """The strongest documents of each feature, by the run's pooling, [places, TOP_DOCUMENTS]."""
        self.top_features = Strongest(*(self._map(top_file("feature", name)) for name in Strongest._fields))
        """The strongest features of each document, [layers, documents, TOP_FEATURES]; layers as in `places`."""
        self.documents = self._documents()
        self._features = self._open(FEATURES_FILE)
        self._token_texts = self._open(TOKEN_TEXTS_FILE)

    def _map(self, name: str) -> np.ndarray:
        # As a plain array: every slice of a memmap costs microseconds more.
        return np.asarray(np.load(self._directory / name, mmap_mode="r"))

    def _open(self, name: str) -> pa.ipc.RecordBatchFileReader:
        return pa.ipc.open_file(pa.memory_map(str(self._directory / name)))

    def _documents(self) -> Documents:
        batch = self._open(DOCUMENTS_FILE).get_batch(0)
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
        """Columns of the features table without nulls, one value per place."""
        table = self._features.read_all()
        return {
            field.name: np.concatenate([_numbers(chunk) for chunk in table[field.name].chunks])
            for field in table.schema
            if pa.types.is_primitive(field.type) and not table[field.name].null_count
        }

    @cached_property
    def token_texts(self) -> list[str]:
        """Texts by the numbers in `shown_tokens`."""
        return self._token_texts.get_batch(0)["text"].to_pylist()

    @cached_property
    def _texts_and_none(self) -> np.ndarray:
        """`token_texts`, then None, so that number -1 selects None."""
        return np.array([*self.token_texts, None], object)

    def shown_texts(self, places: np.ndarray) -> list[list[str]]:
        """Token texts to display for features, strongest first."""
        texts = self._texts_and_none[self.shown_tokens.take(places, axis=0)].tolist()
        return [row if row[-1] is not None else [text for text in row if text is not None] for row in texts]
