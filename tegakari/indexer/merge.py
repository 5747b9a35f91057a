"""Merge of the partials into the tables of a run: a reduction in a fixed order, with one layer in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tegakari.indexer.cohens_d import LabelStatistics, label_variety
from tegakari.indexer.corpus_tokens import corpus_tokens
from tegakari.indexer.document_tables import confusion_matrix, confusion_rows, document_rows, label_ids, label_rows
from tegakari.indexer.layer_tables import LayerFacts, feature_rows, layer_rows, specificity_rows, top_token_rows
from tegakari.indexer.merged_layer import MergedLayer, merge_layer
from tegakari.indexer.partial import LayerPartial, Partial, in_document_order
from tegakari.indexer.shard import IndexedDocument
from tegakari.schemas import tables
from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.run import Scores
from tegakari.store.blocks.activations import Activations, ordered, strongest_documents, strongest_features
from tegakari.store.blocks.files import TOP_DOCUMENTS, TOP_FEATURES, Places
from tegakari.store.blocks.writer import BlocksWriter
from tegakari.store.sql.writer import RunWriter


class MergeSettings(NamedTuple):
    """Settings of the run that determine the content of its tables."""

    pooling: Pooling
    variety_threshold: float
    top_tokens: int


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
    ) -> None:
        """Read the predictions of the partials.

        Args:
            writer: of the run's files.
            documents: by number.
            labels: by class index.
            partials: in the order of shards.
            settings: of the run.
            special_tokens: text of each special token, by id.
        """
        self._writer = writer
        self._documents = documents
        self._labels = labels
        self._partials = partials
        self._settings = settings
        self._specific = np.zeros(len(labels), np.int64)
        self._shared = np.zeros(len(labels), np.int64)
        self._tokens = corpus_tokens(documents, special_tokens)
        self._predictions = in_document_order([partial.documents() for partial in partials])
        self._positions = sum(partial.summary.positions for partial in partials)

    def merge_layers(self, layers: dict[int, LayerFacts], progress: Progress = NoProgress()) -> None:
        """Write layers, features, top_tokens, specificity, feature_labels, the activation files and the blocks.

        Args:
            layers: facts by layer.
            progress: receives the stage "merging layers".
        """
        progress.stage("merging layers", len(layers))
        places = Places(sorted(layers), [facts.d_sae for _, facts in sorted(layers.items())])
        blocks = BlocksWriter(
            self._writer.directory, places, len(self._labels), len(self._documents), self._settings.top_tokens
        )
        alive: list[np.ndarray] = []
        with ThreadPoolExecutor(1, thread_name_prefix="write-activations") as pool:
            pending: Future[None] | None = None
            for layer, facts in sorted(layers.items()):
                partials = [partial.layer(layer) for partial in self._partials]
                if pending is not None:
                    pending.result()  # at most one layer is written while the next is merged
                activations = [partial.activations for partial in partials]
                pending = pool.submit(self._write_activations, blocks, layer, facts.d_sae, activations)
                active = self._write_layer(blocks, layer, facts, partials)
                alive.append(np.flatnonzero(active) + places.slice_of(layer).start)
                progress.advance()
            if pending is not None:
                pending.result()
        self._append_feature_labels(blocks, places, np.concatenate(alive))
        self._finish_blocks(blocks)

    def merge_documents(self) -> tuple[np.ndarray, Scores]:
        """Write labels, documents and confusion; after `merge_layers`, which counts the features of the labels.

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
        return self._predictions.embedding, Scores(accuracy=float(accuracy), macro_f1=float(f1.mean()))

    def _write_layer(
        self, blocks: BlocksWriter, layer: int, facts: LayerFacts, partials: Sequence[LayerPartial]
    ) -> np.ndarray:
        """Write a layer except its activations; return the active positions of each feature, int64 [d_sae]."""
        settings = self._settings
        merged = merge_layer(
            layer,
            partials,
            [partial.summary for partial in self._partials],
            labels=len(self._labels),
            tokens=self._tokens,
            top_tokens=settings.top_tokens,
        )
        features = feature_rows(
            merged,
            self._tokens,
            positions=self._positions,
            pooling=settings.pooling,
            variety_threshold=settings.variety_threshold,
        )
        self._writer.append(tables.LAYERS, layer_rows(merged, facts, self._positions))
        self._writer.append(tables.TOP_TOKENS, top_token_rows(merged, self._tokens))
        self._writer.append(tables.FEATURES, features)
        self._writer.append(tables.SPECIFICITY, specificity_rows(layer, merged.statistics, settings.variety_threshold))
        self._count_features_of_labels(merged.statistics)
        self._write_blocks(blocks, merged, features)
        return merged.active

    def _write_blocks(self, blocks: BlocksWriter, merged: MergedLayer, features: pa.Table) -> None:
        for values in merged.statistics:
            values[:, :, merged.active == 0] = np.nan  # a feature that is never active has no statistics
        blocks.write_layer(
            merged.layer,
            merged.statistics._asdict(),
            merged.documents_active,
            features,
            merged.top_positions,
            merged.shown_tokens,
        )

    def _write_activations(
        self, blocks: BlocksWriter, layer: int, d_sae: int, shard_activations: Sequence[Activations]
    ) -> None:
        activations = ordered(shard_activations)
        self._writer.write_activations(layer, activations)
        blocks.write_activations(
            layer,
            strongest_documents(activations, d_sae, TOP_DOCUMENTS),
            strongest_features(activations, len(self._documents), TOP_FEATURES),
        )

    def _count_features_of_labels(self, statistics: LabelStatistics) -> None:
        """Count a layer's features for each label whose d exceeds the threshold: specific to it, or shared."""
        pooling = POOLINGS.index(self._settings.pooling)
        variety = label_variety(statistics, self._settings.variety_threshold)[pooling]
        above = np.nan_to_num(statistics.d[:, pooling], nan=-np.inf) > self._settings.variety_threshold
        self._specific += (above & (variety == 1)).sum(1)
        self._shared += (above & (variety > 1)).sum(1)

    def _append_feature_labels(self, blocks: BlocksWriter, places: Places, alive: np.ndarray) -> None:
        """Write feature_labels from the blocks, label by label, for features that are ever active."""
        layer = np.repeat(np.array(places.layers, np.int32), places.widths)[alive]
        feature = np.concatenate([np.arange(width, dtype=np.int32) for width in places.widths])[alive]
        for label_id in range(len(self._labels)):
            columns = {"label_id": np.full(len(alive), label_id, np.int32), "layer": layer, "feature": feature}
            for name, values in blocks.label_rows(label_id).items():
                columns[name] = pa.array(values[alive], from_pandas=True)  # NaN becomes null
            self._writer.append(
                tables.FEATURE_LABELS,
                pa.table({column.name: columns[column.name] for column in tables.FEATURE_LABELS.columns}),
            )

    def _finish_blocks(self, blocks: BlocksWriter) -> None:
        documents = self._document_rows().select(
            ["id", "label_id", "predicted_id", "text", "token_ids", "token_starts", "token_ends"]
        )
        index = documents.schema.get_field_index("text")
        documents = documents.set_column(index, "text", documents["text"].cast(pa.large_string()))  # may exceed 2 GiB
        blocks.finish(self._settings.pooling, documents, self._tokens.texts)

    def _document_rows(self) -> pa.Table:
        return document_rows(self._documents, self._predictions, self._tokens)
