"""Merge of the partials into the tables and blocks of a run: layers anywhere, in any order, then their assembly.

The merge of a layer is a function of the layer that writes files of its own (`merged_layer`). The assembly reads them
in the order of layers, each as soon as it is merged, then a row per label of each. It keeps nothing that grows with
shards or features: one thread writes, and others read ahead.
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from tegakari.indexer.document_tables import (
    block_documents,
    confusion_matrix,
    confusion_rows,
    document_rows,
    label_ids,
    label_rows,
)
from tegakari.indexer.layer_contexts import write_probe_documents
from tegakari.indexer.layer_entries import EntriesSummary
from tegakari.indexer.layer_facts import LayerFacts, layer_rows
from tegakari.indexer.layer_features import FeaturesSummary
from tegakari.indexer.layer_statistics import MergeSettings
from tegakari.indexer.merged_layer import LayerMerge, MergedPart
from tegakari.indexer.predictions import Predictions
from tegakari.indexer.shard import IndexedDocument
from tegakari.schemas import tables
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.run import Scores
from tegakari.store.blocks.activations import Strongest
from tegakari.store.blocks.files import Places, TopPositions
from tegakari.store.blocks.writer import BlocksWriter
from tegakari.store.column_types import arrow_schema
from tegakari.store.sql.writer import RunWriter

if TYPE_CHECKING:
    from tegakari.indexer.executors import Executor

Item = TypeVar("Item")
Result = TypeVar("Result")

_BLOCK_ROWS = 8192
"""Rows of a block that are copied at once."""

_DOCUMENTS_AT_ONCE = 4096

_LABELS_AT_ONCE = min(4, os.cpu_count() or 1)
"""Labels that are read ahead: 150 bytes for each of the features of all layers."""


def merged_layers(
    merge: LayerMerge, layers: Mapping[int, int], executor: Executor, progress: Progress = NoProgress()
) -> Generator[int, None, None]:
    """Merge a part of the layers that are not merged yet, and yield all, ascending; others are merged meanwhile.

    Args:
        merge: what the layers share.
        layers: features of each.
        executor: where they are merged; it does not affect the files.
        progress: receives the stage "merging layers".
    """
    missing = {layer: d_sae for layer, d_sae in sorted(layers.items()) if not merge.is_merged(layer)}
    progress.stage("merging layers", len(layers), done=len(layers) - len(missing))
    merged = layers.keys() - missing.keys()
    left = deque(sorted(layers))
    merging = executor.merge(merge, missing)
    while left:
        while left[0] not in merged:
            merged.add(next(merging))
            progress.advance()
        yield left.popleft()


class Assembly(NamedTuple):
    """What is written of a run beside its files."""

    activations: int
    """stored activations of all layers"""
    scores: Scores
    """of the classifier; macro-F1 is the mean over the labels that have documents."""


class Assembler:
    """Writes the tables and blocks of one run from its merged layers and the predictions of its shards."""

    def __init__(
        self,
        writer: RunWriter,
        documents: Sequence[IndexedDocument],
        labels: Sequence[str],
        predictions: Predictions,
        settings: MergeSettings,
        progress: Progress = NoProgress(),
    ) -> None:
        """Nothing is written yet.

        Args:
            writer: of the run's files.
            documents: by number.
            labels: by class index.
            predictions: for the documents.
            settings: of the run.
            progress: receives the stages "merging layers" and "writing labels".
        """
        self._writer = writer
        self._documents = documents
        self._labels = labels
        self._predictions = predictions
        self._settings = settings
        self._progress = progress
        self._alive: list[np.ndarray] = []
        """of each layer: which features are ever active, bool [d_sae]"""

    def write(
        self, merge: LayerMerge, layers: Mapping[int, LayerFacts], executor: Executor, positions: int
    ) -> Assembly:
        """Merge the layers, and write everything but vectors.

        The entries of layers are merged while the rows of labels are written.

        Args:
            merge: what the layers share.
            layers: facts by layer.
            executor: where layers are merged.
            positions: countable positions of all documents.

        Raises:
            Exception: as of `Executor.merge`; what is merged is kept for the next call.
        """
        widths = {layer: layers[layer].d_sae for layer in sorted(layers)}
        places = Places(list(widths), list(widths.values()))
        with BlocksWriter(
            self._writer.directory, places, len(self._labels), len(self._documents), self._settings.top_tokens
        ) as blocks:
            features: list[MergedPart[FeaturesSummary]] = []
            with closing(merged_layers(merge, widths, executor, self._progress)) as merged:
                for layer in merged:
                    features.append(merge.features(layer))
                    self._append_features(blocks, features[-1], layers[layer], positions)
            with closing(merged_layers(merge._replace(part="entries"), widths, executor)) as merged:
                first = next(merged)  # others are merged from now on
                self._progress.stage("writing labels", len(self._labels))
                self._append_labels(blocks, places, features)
                scores = self._append_documents([part.summary for part in features])
                activations = 0
                for layer in chain([first], merged):
                    entries = merge.entries(layer)
                    activations += entries.summary.activations
                    self._append_entries(blocks, entries, widths[layer])
            blocks.finish(block_documents(self._documents, self._predictions))
        if self._settings.contexts:
            write_probe_documents(self._writer.directory, self._documents)
        return Assembly(activations, scores)

    def _append_features(
        self, blocks: BlocksWriter, merged: MergedPart[FeaturesSummary], facts: LayerFacts, positions: int
    ) -> None:
        """Append the rows of a layer and its strongest positions."""
        features = pa.Table.from_batches(merged.batches(tables.FEATURES), arrow_schema(tables.FEATURES))
        active = features["active_positions"].to_numpy()
        self._writer.append(tables.LAYERS, layer_rows(merged.layer, facts, active, positions, merged.summary.outliers))
        self._writer.append(tables.FEATURES, features)
        self._writer.append_batches(tables.TOP_TOKENS, merged.batches(tables.TOP_TOKENS))
        self._writer.append_batches(tables.SPECIFICITY, merged.batches(tables.SPECIFICITY))
        blocks.append_features(features)
        _append_top(blocks, "token", merged, TopPositions.types(), facts.d_sae)
        self._alive.append(active > 0)

    def _append_entries(self, blocks: BlocksWriter, merged: MergedPart[EntriesSummary], d_sae: int) -> None:
        """Append the strongest documents and features of a layer, and take over its files."""
        _append_top(blocks, "document", merged, Strongest.types(), d_sae)
        _append_top(blocks, "feature", merged, Strongest.types(), len(self._documents))
        link_files(merged.directory, self._writer.directory)

    def _append_labels(
        self, blocks: BlocksWriter, places: Places, merged: Sequence[MergedPart[FeaturesSummary]]
    ) -> None:
        """Write the statistics of each label into the blocks and, of features that are ever active, feature_labels."""
        (alive,) = np.nonzero(np.concatenate(self._alive))
        layer = np.repeat(np.array(places.layers, np.int32), places.widths)[alive]
        feature = np.concatenate([np.arange(width, dtype=np.int32) for width in places.widths])[alive]
        schema = arrow_schema(tables.FEATURE_LABELS)
        names = [name for name in schema.names if name not in ("label_id", "layer", "feature")]

        def of_label(label_id: int) -> tuple[pa.RecordBatch, dict[str, np.ndarray], tuple[np.ndarray, np.ndarray]]:
            rows = slice(label_id, label_id + 1)
            statistics = {
                name: np.concatenate([layer.rows(name, rows.start, rows.stop)[0] for layer in merged]) for name in names
            }
            columns = {"label_id": np.full(len(alive), label_id, np.int32), "layer": layer, "feature": feature}
            for name, field in zip(names, map(schema.field, names), strict=True):
                columns[name] = pa.array(statistics[name][alive], from_pandas=True).cast(field.type)  # NaN: null
            batch = pa.RecordBatch.from_arrays([pa.array(columns[name]) for name in schema.names], schema=schema)
            return batch, statistics, blocks.orders(statistics, self._settings.pooling)

        def batches() -> Iterator[pa.RecordBatch]:
            with ThreadPoolExecutor(_LABELS_AT_ONCE, thread_name_prefix="merge-label") as pool:
                for batch, statistics, orders in _in_order(pool, of_label, range(len(self._labels)), _LABELS_AT_ONCE):
                    blocks.append_label(statistics, orders)
                    self._progress.advance()
                    yield batch

        self._writer.append_batches(tables.FEATURE_LABELS, batches())

    def _append_documents(self, layers: Sequence[FeaturesSummary]) -> Scores:
        for start in range(0, len(self._documents), _DOCUMENTS_AT_ONCE):
            numbers = slice(start, start + _DOCUMENTS_AT_ONCE)
            rows = document_rows(self._documents[numbers], self._predictions, numbers)
            self._writer.append(tables.DOCUMENTS, rows)
        confusion = confusion_matrix(
            label_ids(self._documents), self._predictions.predicted_id, labels=len(self._labels)
        )
        self._writer.append(tables.CONFUSION, confusion_rows(confusion))
        specific, shared = (
            np.array([getattr(layer, name) for layer in layers], np.int64).sum(0) for name in ("specific", "shared")
        )
        rows = label_rows(self._labels, confusion, specific, shared)
        self._writer.append(tables.LABELS, rows)
        f1 = rows["f1"].to_numpy()[confusion.sum(1) > 0]
        return Scores(accuracy=float(confusion.trace() / confusion.sum()), macro_f1=float(f1.mean()))


def _append_top(
    blocks: BlocksWriter, subject: str, merged: MergedPart[Any], columns: Iterable[str], count: int
) -> None:
    """Append `count` rows of the arrays of strongest tokens, documents or features."""
    for column in columns:
        for start in range(0, count, _BLOCK_ROWS):
            rows = merged.rows(f"top_{subject}.{column}", start, min(start + _BLOCK_ROWS, count))
            blocks.append_top(subject, column, rows)


def link_files(source: Path, target: Path) -> None:
    """Put the files in directories below `source` below `target` as well, without a copy where links are possible."""
    for file in sorted(source.glob("*/**/*")):
        if file.is_file():
            name = target / file.relative_to(source)
            name.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, name)
            except OSError:  # the file system has no hard links
                shutil.copyfile(file, name)


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Sequence[Item], ahead: int
) -> Iterator[Result]:
    """Results in the order of the items, of which at most `ahead` are computed before they are taken."""
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
