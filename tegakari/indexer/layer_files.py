"""What the two parts of the merge of a layer share: their inputs, and the arrays that they write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from tegakari.indexer.array_file import StoredArray, place_arrays, write_columns, write_rows
from tegakari.indexer.corpus_documents import CorpusDocuments
from tegakari.indexer.layer_statistics import MergeSettings
from tegakari.indexer.partial import Partial

ARRAYS = "arrays.bin"
SUMMARY = "layer.json"


class LayerInputs(NamedTuple):
    """What the merge of a layer reads."""

    layer: int
    d_sae: int
    labels: int
    settings: MergeSettings
    partials: Sequence[Partial]
    """of all shards"""
    corpus: CorpusDocuments
    memory: int
    """bytes for ranges of features"""

    @property
    def documents(self) -> int:
        """Number of documents of the corpus."""
        return len(self.corpus.shard)


class LayerArrays:
    """Arrays in one file, which are written by their parts."""

    def __init__(self, directory: Path, shapes: Mapping[str, tuple[DTypeLike, Sequence[int]]]) -> None:
        """Place the arrays; nothing is written yet.

        Args:
            directory: of the file.
            shapes: type and shape of each array, by name.
        """
        self._file = directory / ARRAYS
        self.places: dict[str, StoredArray] = place_arrays(shapes)

    def write_rows(self, subject: str, start: int, columns: Mapping[str, np.ndarray]) -> None:
        """Write rows of the arrays `subject.column`, from `start`."""
        for name, values in columns.items():
            write_rows(self._file, self.places[f"{subject}.{name}"], start, values)

    def write_columns(self, start: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write parts of arrays along their last axis, from `start`."""
        for name, values in arrays.items():
            write_columns(self._file, self.places[name], start, values)
