"""The merge of one layer over the whole corpus: a function of the layer that writes files.

It runs on a thread, in another process or on another machine, in two parts: what all labels need of its features, and
its entries, for which nothing waits. A part reads partials and writes a directory of its own. It takes a range of
features after the other, as many as its memory has room for, and its files do not depend on how many.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Generic, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from tegakari.indexer.array_file import read_rows
from tegakari.indexer.corpus_documents import corpus_documents
from tegakari.indexer.layer_entries import EntriesSummary, write_entries
from tegakari.indexer.layer_features import TOP_TOKEN, FeaturesSummary, table_file, write_features
from tegakari.indexer.layer_files import ARRAYS, SUMMARY, LayerInputs
from tegakari.indexer.layer_statistics import MergeSettings
from tegakari.indexer.merge_memory import memory_of_ranges
from tegakari.indexer.partial import open_partial
from tegakari.schemas.tables import Table
from tegakari.store.blocks.files import TopPositions
from tegakari.store.disk.durable import random_suffix, staged_directory

LayerPart = Literal["features", "entries"]
"""Parts of the merge of a layer, in their order: `entries` reads the strongest positions of `features`."""

Summary = TypeVar("Summary", FeaturesSummary, EntriesSummary)


class MergedPart(Generic[Summary]):
    """The files of a part of a merged layer."""

    def __init__(self, layer: int, directory: Path, summary: type[Summary]) -> None:
        """Read the summary.

        Raises:
            FileNotFoundError: the part is not merged.
        """
        self.layer = layer
        self.directory = directory
        self.summary = msgspec.json.decode((directory / SUMMARY).read_bytes(), type=summary)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read rows of an array."""
        return read_rows(self.directory / ARRAYS, self.summary.arrays[name], start, stop)

    def batches(self, table: Table) -> Iterator[pa.RecordBatch]:
        """Read rows of a table, one batch after the other."""
        with pa.OSFile(str(self.directory / table_file(table))) as file, pa.ipc.open_stream(file) as stream:
            yield from stream


class LayerMerge(NamedTuple):
    """What the merges of all layers share; sent to other processes and nodes."""

    partials: Path
    """directory of the partials"""
    shards: list[str]
    """keys, in the order on which the last bits of sums depend"""
    directory: Path
    """directory of the merged layers"""
    labels: int
    settings: MergeSettings
    memory: int
    """bytes that the merge of a layer takes at most"""
    part: LayerPart = "features"

    def is_merged(self, layer: int) -> bool:
        """Whether the part of the layer was merged before."""
        return (self._directory_of(layer, self.part) / SUMMARY).is_file()

    def features(self, layer: int) -> MergedPart[FeaturesSummary]:
        """The first part of a layer, which is merged."""
        return MergedPart(layer, self._directory_of(layer, "features"), FeaturesSummary)

    def entries(self, layer: int) -> MergedPart[EntriesSummary]:
        """The second part of a layer, which is merged."""
        return MergedPart(layer, self._directory_of(layer, "entries"), EntriesSummary)

    def merge(self, layer: int, d_sae: int) -> None:
        """Merge the part of a layer into a directory, which appears when it is whole.

        Raises:
            ConfigError: `memory` is too small for a layer of so many documents and features.
            FileNotFoundError: the part is `entries`, and `features` is not merged.
        """
        target = self._directory_of(layer, self.part)
        # A worker that was given up may finish the same layer at the same time; its files are equal to these.
        staged = self.directory / f".{target.name}.{random_suffix()}"
        with suppress(FileExistsError), staged_directory(target, staged):
            inputs = self._inputs(layer, d_sae)
            if self.part == "features":
                write_features(inputs, staged)
                return
            features = self.features(layer)
            strongest = TopPositions(*(features.rows(f"{TOP_TOKEN}.{name}") for name in TopPositions._fields))
            write_entries(inputs, strongest, staged)

    def _inputs(self, layer: int, d_sae: int) -> LayerInputs:
        partials = [open_partial(self.partials, key, layer) for key in self.shards]
        memory = memory_of_ranges(
            self.memory,
            shards=len(partials),
            documents=sum(partial.documents for partial in partials),
            d_sae=d_sae,
            top_tokens=self.settings.top_tokens,
        )
        return LayerInputs(layer, d_sae, self.labels, self.settings, partials, corpus_documents(partials), memory)

    def _directory_of(self, layer: int, part: LayerPart) -> Path:
        return self.directory / f"{layer:02d}-{part}"
