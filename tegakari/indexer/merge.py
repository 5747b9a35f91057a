"""Partials to tables: a reduction in a fixed order, one layer in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tegakari.indexer.moments import LabelStatistics, Moments, label_statistics, merge
from tegakari.indexer.partial import LayerPartial, Partial, in_document_order
from tegakari.indexer.shard import IndexedDocument
from tegakari.indexer.spelling import first_different, spelling
from tegakari.indexer.top_tokens import Candidates, concatenate, ranks, strongest
from tegakari.schemas import tables
from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.schemas.run import Scores
from tegakari.store.blocks.activations import Activations, ordered, strongest_documents, strongest_features
from tegakari.store.blocks.files import SHOWN_TOKENS, TOP_DOCUMENTS, TOP_FEATURES, Places, TopPositions
from tegakari.store.blocks.writer import BlocksWriter
from tegakari.store.queries.runs import HIGH_D_CUTOFFS
from tegakari.store.sql.writer import RunWriter


class LayerFacts(NamedTuple):
    """What is known of a layer before its shards are merged."""

    d_model: int
    d_sae: int
    architecture: str
    explained_variance: float | None
    explained_variance_positions: int


class MergeSettings(NamedTuple):
    """Settings of the run that decide what its tables hold."""

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
    ) -> None:
        self._writer = writer
        self._documents = documents
        self._labels = labels
        self._partials = partials
        self._settings = settings
        self._specific = np.zeros(len(labels), np.int64)
        self._shared = np.zeros(len(labels), np.int64)
        self._spelling = spelling(documents)
        self._said = in_document_order([partial.documents() for partial in partials])
        self._own_labels = np.array([document.label_id for document in documents], np.int32)
        self._positions = sum(partial.summary.positions for partial in partials)

    def merge_layers(self, layers: dict[int, LayerFacts], advance: Callable[[], None]) -> None:
        """Write layers, features, top_tokens, specificity, feature_labels, the activation files and the blocks blocks.

        Args:
            layers: facts by layer.
            advance: called after each layer.
        """
        places = Places(sorted(layers), [facts.d_sae for _, facts in sorted(layers.items())])
        blocks = BlocksWriter(
            self._writer.directory, places, len(self._labels), len(self._documents), self._settings.top_tokens
        )
        alive: list[np.ndarray] = []
        with ThreadPoolExecutor(1, thread_name_prefix="write-activations") as writing:
            pending: Future[None] | None = None
            for layer, facts in sorted(layers.items()):
                partials = [partial.layer(layer) for partial in self._partials]
                if pending is not None:
                    pending.result()  # one layer is written while the next is merged, never more
                parts = [partial.activations for partial in partials]
                pending = writing.submit(self._write_activations, blocks, layer, facts.d_sae, parts)
                count = self._merge_statistics(blocks, layer, facts, partials)
                alive.append(np.flatnonzero(count) + places.slice_of(layer).start)
                advance()
            if pending is not None:
                pending.result()
        self._append_feature_labels(blocks, places, np.concatenate(alive))
        documents = self._document_rows().select(
            ["id", "label_id", "predicted_id", "text", "token_ids", "token_starts", "token_ends"]
        )
        at = documents.schema.get_field_index("text")
        documents = documents.set_column(at, "text", documents["text"].cast(pa.large_string()))  # may pass 2 GiB
        blocks.finish(self._settings.pooling, documents, self._spelling.texts)

    def _merge_statistics(
        self, blocks: BlocksWriter, layer: int, facts: LayerFacts, partials: Sequence[LayerPartial]
    ) -> np.ndarray:
        """Write all of a layer but its activations; return the active positions of each feature, int64 [d_sae]."""
        statistics = label_statistics(self._label_moments(partials, facts.d_sae))
        count = np.sum([partial.active for partial in partials], axis=0)
        total = np.sum([partial.total for partial in partials], axis=0)
        top = strongest(concatenate([partial.candidates for partial in partials]), self._settings.top_tokens)
        where = self._spelling.at(top.document, top.position)
        shown = first_different(top.feature, self._spelling.text[where], facts.d_sae, SHOWN_TOKENS)
        positions = _as_matrix(top, facts.d_sae, self._settings.top_tokens)
        self._writer.append(tables.LAYERS, self._layer_row(layer, facts, count))
        self._writer.append(tables.TOP_TOKENS, self._top_token_rows(layer, top, where))
        features = self._feature_rows(layer, statistics, count, total, positions.activation, shown)
        self._writer.append(tables.FEATURES, features)
        self._writer.append(tables.SPECIFICITY, self._specificity_rows(layer, statistics))
        self._count_carriers(statistics)
        for values in statistics:
            values[:, :, count == 0] = np.nan  # never active: no statistics, in the tables and here
        blocks.write_layer(layer, statistics._asdict(), features, positions, shown)
        return count

    def _write_activations(self, blocks: BlocksWriter, layer: int, d_sae: int, parts: Sequence[Activations]) -> None:
        activations = ordered(parts)
        self._writer.write_activations(layer, activations)
        blocks.write_activations(
            layer,
            strongest_documents(activations, d_sae, TOP_DOCUMENTS),
            strongest_features(activations, len(self._documents), TOP_FEATURES),
        )

    def _append_feature_labels(self, blocks: BlocksWriter, places: Places, alive: np.ndarray) -> None:
        """Label by label, the features that were ever active: what the blocks hold, for SQL."""
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

    def _count_carriers(self, statistics: LabelStatistics) -> None:
        """Add a layer's features to the labels that they carry."""
        variety = _varieties(statistics, self._settings.variety_threshold)
        own = POOLINGS.index(self._settings.pooling)
        carries = np.nan_to_num(statistics.d[:, own], nan=-np.inf) > self._settings.variety_threshold
        self._specific += (carries & (variety[own] == 1)).sum(1)
        self._shared += (carries & (variety[own] > 1)).sum(1)

    def _label_moments(self, partials: Sequence[LayerPartial], d_sae: int) -> list[Moments[np.ndarray]]:
        nothing = np.zeros((len(POOLINGS), d_sae))
        moments = [Moments(0, nothing, nothing) for _ in self._labels]
        for shard, partial in zip(self._partials, partials, strict=True):
            label = shard.summary.label_id
            moments[label] = merge(moments[label], Moments(shard.summary.documents, partial.mean, partial.m2))
        return moments

    def _layer_row(self, layer: int, facts: LayerFacts, count: np.ndarray) -> pa.Table:
        return pa.table(
            {
                "layer": [layer],
                "d_model": [facts.d_model],
                "d_sae": [facts.d_sae],
                "architecture": [facts.architecture],
                "positions": [self._positions],
                "l0": [count.sum() / self._positions],
                "alive": [int((count > 0).sum())],
                "explained_variance": pa.array([facts.explained_variance], pa.float64()),
                "explained_variance_positions": [facts.explained_variance_positions],
            }
        )

    def _top_token_rows(self, layer: int, top: Candidates, where: np.ndarray) -> pa.Table:
        """Rows of top_tokens; `where` are the places of the tokens in the spelling."""
        spelled = self._spelling
        return pa.table(
            {
                "layer": np.full(len(where), layer, np.int32),
                "feature": top.feature,
                "rank": (ranks(top.feature) + 1).astype(np.int32),
                "activation": top.activation,
                "document": top.document,
                "position": top.position,
                "token_id": spelled.token_id[where],
                "token": spelled.texts.take(pa.array(spelled.text[where])),
                "char_start": spelled.start[where],
                "char_end": spelled.end[where],
            }
        )

    def _feature_rows(
        self,
        layer: int,
        statistics: LabelStatistics,
        count: np.ndarray,
        total: np.ndarray,
        strongest_activations: np.ndarray,
        shown: np.ndarray,
    ) -> pa.Table:
        d_sae = len(count)
        own = statistics.d[:, POOLINGS.index(self._settings.pooling)]
        ranked = np.where(np.isnan(own), -np.inf, own)
        best = ranked.argmax(0)
        best_d = ranked[best, np.arange(d_sae)]
        undefined = np.isinf(best_d)
        varieties = _varieties(statistics, self._settings.variety_threshold)
        offsets = np.cumsum([0, *(shown >= 0).sum(1)], dtype=np.int32)
        texts = self._spelling.texts.take(pa.array(shown[shown >= 0]))
        return pa.table(
            {
                "layer": np.full(d_sae, layer, np.int32),
                "feature": np.arange(d_sae, dtype=np.int32),
                "density": count / self._positions,
                "active_positions": count,
                "mean_activation": total / np.maximum(count, 1),
                "max_activation": strongest_activations[:, 0],
                **{f"variety_{pooling}": varieties[index] for index, pooling in enumerate(POOLINGS)},
                "best_label_id": pa.array(best.astype(np.int32), mask=undefined),
                "best_d": pa.array(best_d.astype(np.float32), mask=undefined),
                "top_tokens": pa.ListArray.from_arrays(offsets, texts),
            }
        )

    def _specificity_rows(self, layer: int, statistics: LabelStatistics) -> pa.Table:
        rows = []
        # In the order of the table's key: pooling by name, then cut-off, then variety.
        for pooling in sorted(POOLINGS):
            for cutoff in sorted({*HIGH_D_CUTOFFS, self._settings.variety_threshold}):
                counts = np.bincount(_varieties(statistics, cutoff)[POOLINGS.index(pooling)])
                rows += [(layer, pooling, cutoff, int(v), int(counts[v])) for v in np.flatnonzero(counts)]
        names = [column.name for column in tables.SPECIFICITY.columns]
        return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))

    def merge_documents(self) -> tuple[np.ndarray, Scores]:
        """Write labels, documents and confusion; after `merge_layers`, whose features the labels count.

        Returns:
            document embeddings, float32 [documents, d_model], and the classifier's scores; macro-F1 is the mean over
            the labels that have documents.
        """
        said, own = self._said, self._own_labels
        self._writer.append(tables.DOCUMENTS, self._document_rows())
        confusion = np.zeros((len(self._labels), len(self._labels)), np.int32)
        np.add.at(confusion, (own, said.predicted_id), 1)
        label, predicted = np.nonzero(confusion)
        self._writer.append(
            tables.CONFUSION,
            pa.table({"label_id": label, "predicted_id": predicted, "documents": confusion[label, predicted]}),
        )
        label_rows = self._label_rows(confusion)
        self._writer.append(tables.LABELS, label_rows)
        f1 = label_rows["f1"].to_numpy()[confusion.sum(1) > 0]
        accuracy = confusion.trace() / confusion.sum()
        return said.embedding, Scores(accuracy=float(accuracy), macro_f1=float(f1.mean()))

    def _document_rows(self) -> pa.Table:
        said, spelled = self._said, self._spelling
        token_ids, starts, ends = (
            self._by_document(values) for values in (spelled.token_id, spelled.start, spelled.end)
        )
        return pa.table(
            {
                "document": said.document,
                "id": [document.id for document in self._documents],
                "label_id": self._own_labels,
                "split": [document.split for document in self._documents],
                "predicted_id": said.predicted_id,
                "label_logit": said.label_logit,
                "predicted_logit": said.predicted_logit,
                "tokens": np.diff(spelled.first).astype(np.int32),
                "truncated": [document.tokens.truncated for document in self._documents],
                "text": [document.text for document in self._documents],
                "token_ids": token_ids,
                "token_starts": starts,
                "token_ends": ends,
            }
        )

    def _by_document(self, values: np.ndarray) -> pa.ListArray:
        return pa.ListArray.from_arrays(self._spelling.first.astype(np.int32), values)

    def _label_rows(self, confusion: np.ndarray) -> pa.Table:
        hits = confusion.diagonal()
        documents, predictions = confusion.sum(1), confusion.sum(0)
        recall = hits / np.maximum(documents, 1)
        precision = hits / np.maximum(predictions, 1)
        return pa.table(
            {
                "label_id": np.arange(len(self._labels), dtype=np.int32),
                "label": list(self._labels),
                "documents": documents,
                "precision": precision,
                "recall": recall,
                "f1": 2 * hits / np.maximum(documents + predictions, 1),
                "specific_features": self._specific,
                "shared_features": self._shared,
            }
        )


def _varieties(statistics: LabelStatistics, threshold: float) -> np.ndarray:
    """Label variety, int32 [poolings, d_sae]: the number of labels with d above the threshold; undefined d never is."""
    return (np.nan_to_num(statistics.d, nan=-np.inf) > threshold).sum(0).astype(np.int32)


def _as_matrix(top: Candidates, d_sae: int, n: int) -> TopPositions:
    """Rows that `strongest` put in order, as one row a feature."""
    where = top.feature, ranks(top.feature)
    matrix = TopPositions(
        np.zeros((d_sae, n), np.float32), np.full((d_sae, n), -1, np.int32), np.full((d_sae, n), -1, np.int32)
    )
    for values, column in zip(matrix, (top.activation, top.document, top.position), strict=True):
        values[where] = column
    return matrix
