"""One layer over the whole corpus, reduced from the partials of all shards: a function of the layer that writes files.

It runs on a thread, in another process or on another machine: it reads partials and writes a directory of its own. It
takes a range of features after the other, as many as its memory has room for, and its files do not depend on how many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from tegakari.indexer.array_file import StoredArray, place_arrays, read_rows, write_columns, write_rows
from tegakari.indexer.corpus_documents import CorpusDocuments, corpus_documents
from tegakari.indexer.feature_ranges import equal_ranges, feature_ranges
from tegakari.indexer.layer_contexts import write_layer_contexts
from tegakari.indexer.layer_statistics import (
    LABEL_BYTES,
    LayerStatistics,
    MergeSettings,
    joined,
    range_statistics,
    stored_types,
)
from tegakari.indexer.layer_sums import SUMS_BYTES, layer_sums
from tegakari.indexer.layer_tables import feature_rows, shown_texts, specificity_rows, top_token_rows
from tegakari.indexer.merge_loops import merge_activations
from tegakari.indexer.merge_memory import memory_of_ranges
from tegakari.indexer.partial import ACTIVATIONS, Partial, open_partial
from tegakari.indexer.strongest import bits_of, no_entries, strongest_members
from tegakari.indexer.top_positions import TOKEN_BYTES, strongest_positions, top_tokens
from tegakari.schemas import tables
from tegakari.schemas.tables import Table
from tegakari.store.blocks.activations import Activations, Strongest, write_activations
from tegakari.store.blocks.files import TOP_DOCUMENTS, TOP_FEATURES, TopPositions
from tegakari.store.column_types import arrow_schema
from tegakari.store.disk.durable import random_suffix, staged_directory
from tegakari.store.disk.layout import layer_file

_ARRAYS = "arrays.bin"
_SUMMARY = "layer.json"

_HEAP_BYTES = TOP_DOCUMENTS * 40
"""Memory per feature while its strongest documents are selected."""

_DOCUMENT_BYTES = TOP_FEATURES * 16
"""Memory per document while its strongest features are brought into order."""


class LayerSummary(msgspec.Struct, frozen=True):
    """Content of layer.json."""

    outliers: int
    """positions that are norm outliers, which no other figure includes."""
    activations: int
    """stored activations"""
    specific: list[int]
    """as of `LayerStatistics`, as the next."""
    shared: list[int]
    arrays: dict[str, StoredArray]


class MergedLayer:
    """The files of a merged layer."""

    def __init__(self, directory: Path, layer: int) -> None:
        """Read the summary.

        Raises:
            FileNotFoundError: the layer is not merged.
        """
        self.layer = layer
        self.directory = directory / f"{layer:02d}"
        self.summary = msgspec.json.decode((self.directory / _SUMMARY).read_bytes(), type=LayerSummary)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read rows of an array."""
        return read_rows(self.directory / _ARRAYS, self.summary.arrays[name], start, stop)

    def batches(self, table: Table) -> Iterator[pa.RecordBatch]:
        """Read rows of a table, one batch after the other."""
        with pa.OSFile(str(self.directory / _table_file(table))) as file, pa.ipc.open_stream(file) as stream:
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

    def is_merged(self, layer: int) -> bool:
        """Whether the layer was merged before."""
        return (self.directory / f"{layer:02d}" / _SUMMARY).is_file()

    def merge(self, layer: int, d_sae: int) -> None:
        """Merge a layer into a directory, which appears when it is whole.

        Raises:
            ConfigError: `memory` is too small for a layer of so many documents and features.
        """
        target = self.directory / f"{layer:02d}"
        # A worker that was given up may finish the same layer at the same time; its files are equal to these.
        staged = self.directory / f".{layer:02d}.{random_suffix()}"
        with suppress(FileExistsError), staged_directory(target, staged):
            partials = [open_partial(self.partials, key, layer) for key in self.shards]
            _Merge(self, layer, d_sae, partials, staged).write()


class _Merge:
    """The steps of one layer."""

    def __init__(self, merge: LayerMerge, layer: int, d_sae: int, partials: list[Partial], directory: Path) -> None:
        self._labels, self._settings = merge.labels, merge.settings
        self._layer, self._d_sae = layer, d_sae
        self._partials = partials
        self._directory = directory
        self._documents = documents = sum(partial.documents for partial in partials)
        self._memory = memory_of_ranges(
            merge.memory, shards=len(partials), documents=documents, d_sae=d_sae, top_tokens=merge.settings.top_tokens
        )
        self._corpus: CorpusDocuments = corpus_documents(partials)
        n = self._settings.top_tokens
        self._arrays = place_arrays(
            {name: (kind, (self._labels, d_sae)) for name, kind in stored_types(documents).items()}
            | {f"top_token.{name}": (kind, (d_sae, n)) for name, kind in TopPositions.types().items()}
            | {f"top_document.{name}": (kind, (d_sae, TOP_DOCUMENTS)) for name, kind in Strongest.types().items()}
            | {f"top_feature.{name}": (kind, (documents, TOP_FEATURES)) for name, kind in Strongest.types().items()}
        )

    def write(self) -> None:
        """Write all files; the summary is the last."""
        statistics = self._write_statistics()
        strongest = strongest_positions(
            self._partials, self._layer, self._d_sae, self._settings.top_tokens, self._corpus, self._memory
        )
        self._write_rows("top_token", 0, strongest)
        self._write_tables(statistics, strongest)
        activations = write_activations(_made(layer_file(self._directory, self._layer)), self._ordered_activations())
        self._write_top_features()
        if self._settings.contexts:
            write_layer_contexts(
                self._directory, self._layer, self._d_sae, self._partials, self._corpus, strongest, self._memory
            )
        summary = LayerSummary(
            self._outliers, activations, statistics.specific.tolist(), statistics.shared.tolist(), self._arrays
        )
        (self._directory / _SUMMARY).write_bytes(msgspec.json.encode(summary))

    @property
    def _outliers(self) -> int:
        return sum(partial.outliers(self._layer) for partial in self._partials)

    def _write_statistics(self) -> LayerStatistics:
        parts = []
        most = max(len(partial.summary.labels) for partial in self._partials)  # labels of a shard
        feature_bytes = self._labels * LABEL_BYTES + most * SUMS_BYTES
        for start, stop in equal_ranges(self._d_sae, self._memory // feature_bytes):
            sums = layer_sums(self._layer, start, stop, self._partials, self._labels)
            statistics, stored = range_statistics(sums, self._settings)
            for name, columns in stored.items():
                write_columns(self._directory / _ARRAYS, self._arrays[name], start, columns)
            parts.append(statistics)
        return joined(parts)

    def _write_tables(self, statistics: LayerStatistics, strongest: TopPositions) -> None:
        shown: list[pa.Array] = []

        def top_token_tables() -> Iterator[pa.Table]:
            at_once = self._memory // (self._settings.top_tokens * TOKEN_BYTES)
            for start, stop in equal_ranges(self._d_sae, at_once):
                positions = TopPositions(*(column[start:stop] for column in strongest))
                tokens = top_tokens(self._partials, self._corpus, positions)
                shown.append(shown_texts(tokens))
                yield top_token_rows(self._layer, start, positions, tokens)

        self._write_table(tables.TOP_TOKENS, top_token_tables())
        positions = sum(partial.summary.positions for partial in self._partials) - self._outliers
        features = feature_rows(
            self._layer,
            statistics,
            strongest.activation[:, 0],
            pa.concat_arrays(shown),
            positions,
            self._settings,
        )
        self._write_table(tables.FEATURES, [features])
        rows = specificity_rows(self._layer, statistics.variety, self._settings)
        self._write_table(tables.SPECIFICITY, [rows])

    def _write_table(self, table: Table, parts: Iterable[pa.Table]) -> None:
        schema = arrow_schema(table)
        with (
            pa.OSFile(str(self._directory / _table_file(table)), "wb") as file,
            pa.ipc.new_stream(file, schema) as stream,
        ):
            for part in parts:
                stream.write_table(part.cast(schema), max_chunksize=_BATCH)

    def _ordered_activations(self) -> Iterator[Activations]:
        """Activations by (feature, document); the strongest documents of each feature are written on the way."""
        for features in feature_ranges(
            self._partials, self._layer, self._d_sae, ACTIVATIONS, self._memory, _HEAP_BYTES
        ):
            document, activation = features.columns
            merged = tuple(np.empty(len(document), kind) for kind in (np.int32, np.int32, np.uint32))
            heaps = no_entries(features.stop - features.start, TOP_DOCUMENTS)
            merge_activations(features.starts, document, bits_of(activation), self._documents, merged, heaps)
            self._write_rows("top_document", features.start, strongest_members(heaps))
            feature, document, bits = merged
            feature += features.start
            yield Activations(feature, document, bits.view(np.float32))

    def _write_top_features(self) -> None:
        """Bring the strongest features of documents from the order of shards into that of documents."""
        at_once = max(1, self._memory // _DOCUMENT_BYTES)
        for start in range(0, self._documents, at_once):
            stop = min(start + at_once, self._documents)
            shape = stop - start, TOP_FEATURES
            rows = Strongest(*(np.empty(shape, kind) for kind in Strongest.types().values()))
            for partial in self._partials:
                numbers = partial.document_numbers() - start
                inside = (numbers >= 0) & (numbers < stop - start)
                if inside.any():
                    for target, values in zip(rows, partial.top_features(self._layer), strict=True):
                        target[numbers[inside]] = values[inside]
            self._write_rows("top_feature", start, rows)

    def _write_rows(self, name: str, start: int, columns: TopPositions | Strongest) -> None:
        for field, values in columns._asdict().items():
            write_rows(self._directory / _ARRAYS, self._arrays[f"{name}.{field}"], start, values)


_BATCH = 122_880
"""Rows per batch of a table: those that DuckDB compresses as one unit."""


def _table_file(table: Table) -> str:
    return f"{table.name}.arrow"


def _made(file: Path) -> Path:
    """The file, whose directory is created."""
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
