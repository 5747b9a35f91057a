"""Merge of the partials into the tables of a run: layers on threads, rows in a fixed order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import pyarrow as pa
import torch

from tegakari.indexer.corpus_tokens import corpus_tokens
from tegakari.indexer.document_tables import confusion_matrix, confusion_rows, document_rows, label_ids, label_rows
from tegakari.indexer.layer_contexts import write_probe_documents
from tegakari.indexer.layer_statistics import MergeSettings
from tegakari.indexer.layer_tables import (
    LayerFacts,
    feature_rows,
    layer_rows,
    shown_tokens,
    specificity_rows,
    top_token_rows,
)
from tegakari.indexer.merged_layer import LayerMerge, MergedLayer, layer_bytes
from tegakari.indexer.partial import Partial, in_document_order
from tegakari.indexer.shard import IndexedDocument
from tegakari.models.memory import free_bytes
from tegakari.schemas import tables
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.run import Scores
from tegakari.store.blocks.files import Places
from tegakari.store.blocks.writer import BlocksWriter
from tegakari.store.column_types import arrow_schema
from tegakari.store.sql.writer import RunWriter


class Merger:
    """Writes the tables of one run from its partials, in shard order."""

    def __init__(
        self,
        writer: RunWriter,
        documents: Sequence[IndexedDocument],
        labels: Sequence[str],
        partials: Sequence[Partial],
        settings: MergeSettings,
        special_tokens: Mapping[int, str],
        threads: int | None = None,
    ) -> None:
        """Read the predictions of the partials.

        Args:
            writer: of the run's files.
            documents: by number.
            labels: by class index.
            partials: in the order of shards.
            settings: of the run.
            special_tokens: text of each special token, by id.
            threads: number of layers that are merged at a time; default: as many as cores and memory allow.
        """
        self._writer = writer
        self._documents = documents
        self._labels = labels
        self._partials = partials
        self._settings = settings
        self._threads = threads
        self._specific = np.zeros(len(labels), np.int64)
        self._shared = np.zeros(len(labels), np.int64)
        self._tokens = corpus_tokens(documents, special_tokens)
        self._predictions = in_document_order([partial.documents() for partial in partials])
        self._positions = sum(partial.summary.positions for partial in partials)

    def merge_layers(self, layers: dict[int, LayerFacts], progress: Progress = NoProgress()) -> None:
        """Write layers, features, top_tokens, specificity, feature_labels, the activation files and the blocks.

        Layers are merged on threads, and their rows are appended in ascending order: the tables do not depend on the
        number of threads.

        Args:
            layers: facts by layer.
            progress: receives the stage "merging layers".
        """
        progress.stage("merging layers", len(layers))
        places = Places(sorted(layers), [facts.d_sae for _, facts in sorted(layers.items())])
        blocks = BlocksWriter(
            self._writer.directory, places, len(self._labels), len(self._documents), self._settings.top_tokens
        )
        merge = LayerMerge(
            self._partials,
            len(self._labels),
            len(self._documents),
            self._tokens,
            self._settings,
            blocks,
            self._writer,
        )
        alive: list[np.ndarray] = []
        threads = self._threads or _threads(len(self._labels), max(places.widths))
        with ThreadPoolExecutor(min(threads, len(layers)), thread_name_prefix="merge-layer") as pool:
            for merged in _in_order(pool, merge.merge, zip(places.layers, places.widths, strict=True), threads):
                self._append_layer(blocks, merged, layers[merged.layer])
                alive.append(np.flatnonzero(merged.active) + places.slice_of(merged.layer).start)
                progress.advance()
            orders = pool.map(partial(blocks.write_order, self._settings.pooling), range(len(self._labels)))
            self._append_feature_labels(blocks, places, np.concatenate(alive))
            list(orders)
        self._finish_blocks(blocks)

    def merge_documents(self) -> tuple[np.ndarray, Scores]:
        """Write labels, documents, confusion and the probes; after `merge_layers`, which counts features of labels.

        Returns:
            document embeddings, float32 [documents, d_model], and the classifier's scores; macro-F1 is the mean over
            the labels that have documents.
        """
        self._writer.append(tables.DOCUMENTS, self._document_rows())
        confusion = confusion_matrix(
            label_ids(self._documents), self._predictions.predicted_id, labels=len(self._labels)
        )
        self._writer.append(tables.CONFUSION, confusion_rows(confusion))
        rows = label_rows(self._labels, confusion, self._specific, self._shared)
        self._writer.append(tables.LABELS, rows)
        f1 = rows["f1"].to_numpy()[confusion.sum(1) > 0]
        accuracy = confusion.trace() / confusion.sum()
        if self._settings.contexts:
            write_probe_documents(self._writer.directory, self._documents)
        return self._predictions.embedding, Scores(accuracy=float(accuracy), macro_f1=float(f1.mean()))

    def _append_layer(self, blocks: BlocksWriter, merged: MergedLayer, facts: LayerFacts) -> None:
        shown = shown_tokens(merged, self._tokens)
        features = feature_rows(merged, self._tokens, shown, self._positions, self._settings)
        self._writer.append(tables.LAYERS, layer_rows(merged, facts, self._positions))
        self._writer.append(tables.TOP_TOKENS, top_token_rows(merged, self._tokens))
        self._writer.append(tables.FEATURES, features)
        self._writer.append(tables.SPECIFICITY, specificity_rows(merged, self._settings))
        blocks.append_features(merged.layer, features, shown)
        self._specific += merged.statistics.specific
        self._shared += merged.statistics.shared

    def _append_feature_labels(self, blocks: BlocksWriter, places: Places, alive: np.ndarray) -> None:
        """Write feature_labels from the blocks, label by label, for features that are ever active."""
        layer = np.repeat(np.array(places.layers, np.int32), places.widths)[alive]
        feature = np.concatenate([np.arange(width, dtype=np.int32) for width in places.widths])[alive]
        schema = arrow_schema(tables.FEATURE_LABELS)

        def batches() -> Iterator[pa.RecordBatch]:
            for label_id in range(len(self._labels)):
                columns = {"label_id": np.full(len(alive), label_id, np.int32), "layer": layer, "feature": feature}
                for name, values in blocks.label_rows(label_id).items():
                    columns[name] = pa.array(values[alive], from_pandas=True)  # NaN becomes null
                yield pa.RecordBatch.from_arrays([pa.array(columns[name]) for name in schema.names], schema=schema)

        self._writer.append_batches(tables.FEATURE_LABELS, batches())

    def _finish_blocks(self, blocks: BlocksWriter) -> None:
        documents = self._document_rows().select(
            ["id", "label_id", "predicted_id", "text", "token_ids", "token_starts", "token_ends"]
        )
        index = documents.schema.get_field_index("text")
        documents = documents.set_column(index, "text", documents["text"].cast(pa.large_string()))  # may exceed 2 GiB
        blocks.finish(documents, self._tokens.texts)

    def _document_rows(self) -> pa.Table:
        return document_rows(self._documents, self._predictions, self._tokens)


def _threads(labels: int, d_sae: int) -> int:
    """Layers to merge at a time: one per core, in at most half of the free memory."""
    return max(1, min(os.cpu_count() or 1, free_bytes(torch.device("cpu")) // 2 // layer_bytes(labels, d_sae)))


def _in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[int, int], MergedLayer],
    arguments: Iterable[tuple[int, int]],
    ahead: int,
) -> Iterator[MergedLayer]:
    """Results in the order of the arguments, of which at most `ahead` are computed before they are taken."""
    pending: deque[Future[MergedLayer]] = deque()
    try:
        for pair in arguments:
            pending.append(pool.submit(function, *pair))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
