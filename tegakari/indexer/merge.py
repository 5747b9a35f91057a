"""Partials to tables: a reduction in a fixed order, one layer in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tegakari.indexer.moments import LabelStatistics, Moments, label_statistics, merge
from tegakari.indexer.partial import DocumentPartial, LayerPartial, Partial
from tegakari.indexer.shards import IndexedDocument
from tegakari.indexer.top_tokens import Candidates, concatenate, ranks, strongest
from tegakari.schemas import tables
from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.schemas.run import Scores
from tegakari.store.hot import HotWriter, Places
from tegakari.store.queries import HIGH_D_CUTOFFS
from tegakari.store.writer import RunWriter

SHOWN_TOKENS = 5
"""Different tokens that the features table names for a feature."""


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
        self._positions = sum(partial.summary.positions for partial in partials)

    def merge_layers(self, layers: dict[int, LayerFacts], advance: Callable[[], None]) -> None:
        """Write layers, features, top_tokens, specificity, feature_labels, the activation files and the hot blocks.

        Args:
            layers: facts by layer.
            advance: called after each layer.
        """
        places = Places(sorted(layers), [facts.d_sae for _, facts in sorted(layers.items())])
        hot = HotWriter(self._writer.directory, places, len(self._labels))
        alive, places_alive = [], []
        for layer, facts in sorted(layers.items()):
            partials = [partial.layer(layer) for partial in self._partials]
            statistics = label_statistics(self._label_moments(partials, facts.d_sae))
            count = np.sum([partial.active for partial in partials], axis=0)
            total = np.sum([partial.total for partial in partials], axis=0)
            top = strongest(concatenate([partial.candidates for partial in partials]), self._settings.top_tokens)
            top_rows = self._top_token_rows(layer, top)
            self._writer.append(tables.LAYERS, self._layer_row(layer, facts, count))
            self._writer.append(tables.TOP_TOKENS, top_rows)
            features = self._feature_rows(layer, statistics, count, total, top_rows)
            self._writer.append(tables.FEATURES, features)
            self._writer.append(tables.SPECIFICITY, self._specificity_rows(layer, statistics))
            self._writer.write_activations(layer, _by_feature([partial.activations for partial in partials]))
            self._count_carriers(statistics)
            for values in statistics:
                values[:, :, count == 0] = np.nan  # never active: no statistics, in the tables and here
            hot.write_layer(layer, statistics._asdict(), features.cast(tables.FEATURES.schema), top_rows)
            alive.append(pa.table({name: features[name].to_numpy()[count > 0] for name in ("layer", "feature")}))
            places_alive.append(np.flatnonzero(count) + places.slice_of(layer).start)
            advance()
        self._append_feature_labels(hot, pa.concat_tables(alive), np.concatenate(places_alive))
        hot.finish(
            self._settings.pooling,
            pa.table(
                {
                    "id": [document.id for document in self._documents],
                    "label_id": pa.array([document.label_id for document in self._documents], pa.int32()),
                    "text": [document.text for document in self._documents],
                }
            ),
        )

    def _append_feature_labels(self, hot: HotWriter, alive: pa.Table, places: np.ndarray) -> None:
        """Label by label, the features that were ever active: what the blocks hold, for SQL."""
        ordered = [column.name for column in tables.FEATURE_LABELS.columns]
        for label_id in range(len(self._labels)):
            rows = alive.add_column(0, "label_id", pa.array(np.full(len(places), label_id, np.int32)))
            for name, values in hot.label_rows(label_id).items():
                rows = rows.append_column(name, pa.array(values[places], from_pandas=True))  # NaN becomes null
            self._writer.append(tables.FEATURE_LABELS, rows.select(ordered))

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

    def _top_token_rows(self, layer: int, top: Candidates) -> pa.Table:
        ids, tokens, starts, ends = [], [], [], []
        for document, position in zip(top.document.tolist(), top.position.tolist(), strict=True):
            found = self._documents[document]
            start, end = found.tokens.spans[position]
            ids.append(found.tokens.input_ids[position])
            tokens.append(found.text[start:end])
            starts.append(start)
            ends.append(end)
        return pa.table(
            {
                "layer": np.full(len(ids), layer, np.int32),
                "feature": top.feature,
                "rank": (ranks(top.feature) + 1).astype(np.int32),
                "activation": top.activation,
                "document": top.document,
                "position": top.position,
                "token_id": pa.array(ids, pa.int32()),
                "token": pa.array(tokens, pa.string()),
                "char_start": pa.array(starts, pa.int32()),
                "char_end": pa.array(ends, pa.int32()),
            }
        )

    def _feature_rows(
        self, layer: int, statistics: LabelStatistics, count: np.ndarray, total: np.ndarray, top_rows: pa.Table
    ) -> pa.Table:
        d_sae = len(count)
        own = statistics.d[:, POOLINGS.index(self._settings.pooling)]
        ranked = np.where(np.isnan(own), -np.inf, own)
        best = ranked.argmax(0)
        best_d = ranked[best, np.arange(d_sae)]
        undefined = np.isinf(best_d)
        maximum = np.zeros(d_sae, np.float32)
        shown: list[list[str]] = [[] for _ in range(d_sae)]
        for feature, token, rank, activation in zip(
            *(top_rows[name].to_pylist() for name in ("feature", "token", "rank", "activation")), strict=True
        ):
            if rank == 1:
                maximum[feature] = activation
            if len(shown[feature]) < SHOWN_TOKENS and token not in shown[feature]:
                shown[feature].append(token)
        varieties = _varieties(statistics, self._settings.variety_threshold)
        return pa.table(
            {
                "layer": np.full(d_sae, layer, np.int32),
                "feature": np.arange(d_sae, dtype=np.int32),
                "density": count / self._positions,
                "active_positions": count,
                "mean_activation": total / np.maximum(count, 1),
                "max_activation": maximum,
                **{f"variety_{pooling}": varieties[index] for index, pooling in enumerate(POOLINGS)},
                "best_label_id": pa.array(best.astype(np.int32), mask=undefined),
                "best_d": pa.array(best_d.astype(np.float32), mask=undefined),
                "top_tokens": pa.array(shown, pa.list_(pa.string())),
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
        parts = [partial.documents() for partial in self._partials]
        joined = DocumentPartial(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
        order = np.argsort(joined.document)
        said = DocumentPartial(*(array[order] for array in joined))
        own = np.array([document.label_id for document in self._documents], np.int32)
        self._writer.append(tables.DOCUMENTS, self._document_rows(said, own))
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

    def _document_rows(self, said: DocumentPartial, own: np.ndarray) -> pa.Table:
        tokens = [document.tokens for document in self._documents]
        lists = pa.list_(pa.int32())
        return pa.table(
            {
                "document": said.document,
                "id": [document.id for document in self._documents],
                "label_id": own,
                "split": [document.split for document in self._documents],
                "predicted_id": said.predicted_id,
                "label_logit": said.label_logit,
                "predicted_logit": said.predicted_logit,
                "tokens": [len(item.input_ids) for item in tokens],
                "truncated": [item.truncated for item in tokens],
                "text": [document.text for document in self._documents],
                "token_ids": pa.array([item.input_ids for item in tokens], lists),
                "token_starts": pa.array([[start for start, _ in item.spans] for item in tokens], lists),
                "token_ends": pa.array([[end for _, end in item.spans] for item in tokens], lists),
            }
        )

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


def _by_feature(parts: Sequence[pa.Table]) -> pa.Table:
    """Join the shards' activations, by (feature, document)."""
    joined = pa.concat_tables(parts)
    order = np.lexsort((joined["document"].to_numpy(), joined["feature"].to_numpy()))
    return joined.take(pa.array(order))
