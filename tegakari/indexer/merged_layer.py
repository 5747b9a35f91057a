"""One layer over the whole corpus, reduced from the partials of all shards; its blocks and its activation file.

Layers are merged on threads: the loops run without the GIL, and a layer writes to places of its own. Sums and
candidates are added one shard after the other, and activations are ordered a range of features at a time, so that the
memory of a layer does not grow with the corpus.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tegakari.indexer.corpus_tokens import CorpusTokens
from tegakari.indexer.feature_ranges import AT_ONCE, feature_ranges
from tegakari.indexer.layer_contexts import write_layer_contexts
from tegakari.indexer.layer_statistics import LayerStatistics, MergeSettings, write_statistics
from tegakari.indexer.layer_sums import layer_sums
from tegakari.indexer.merge_loops import merge_activations, select_candidates
from tegakari.indexer.partial import ACTIVATIONS, CANDIDATES, Partial
from tegakari.indexer.strongest import bits_of, no_entries, strongest_entries, strongest_members
from tegakari.schemas.config import POOLINGS
from tegakari.store.blocks.activations import Activations
from tegakari.store.blocks.files import TOP_DOCUMENTS, TopPositions
from tegakari.store.blocks.writer import BlocksWriter
from tegakari.store.sql.writer import RunWriter


def layer_bytes(labels: int, d_sae: int) -> int:
    """Memory that the merge of a layer takes at most: its sums, and the activations that are ordered at once."""
    return labels * len(POOLINGS) * d_sae * 24 + AT_ONCE * 32


class MergedLayer(NamedTuple):
    """Figures of one layer over the whole corpus."""

    layer: int
    statistics: LayerStatistics
    active: np.ndarray
    """int64 [d_sae]: positions at which each feature is active."""
    total: np.ndarray
    """float64 [d_sae]: sum of the activations of each feature."""
    outliers: int
    """positions that are norm outliers, which no other figure includes."""
    top_rows: np.ndarray
    """int64 [d_sae, top_tokens]: rows in `CorpusTokens` of the strongest positions of each feature, -1 = none."""
    top_activation: np.ndarray
    """float32 [d_sae, top_tokens]; 0 where there is none."""


def strongest_positions(
    partials: Sequence[Partial], layer: int, d_sae: int, n: int, tokens: CorpusTokens
) -> tuple[np.ndarray, TopPositions]:
    """The n strongest positions of each feature of a layer.

    Returns:
        their rows in `tokens`, int64 [d_sae, n], -1 = none, and the positions.
    """
    keys = no_entries(d_sae, n)
    for features in feature_ranges(partials, layer, CANDIDATES):
        activation, document, position = features.columns
        rows = tokens.rows(document, position)
        select_candidates(features.starts, bits_of(activation), rows, keys[features.start : features.stop])
    rows, activation = strongest_entries(keys)
    document = np.where(rows >= 0, tokens.document[rows], -1).astype(np.int32)
    position = np.where(rows >= 0, rows - tokens.offsets[document], -1).astype(np.int32)
    return rows, TopPositions(activation, document, position)


class LayerMerge(NamedTuple):
    """Inputs and outputs that all layers share."""

    partials: Sequence[Partial]
    """in the order of shards."""
    labels: int
    documents: int
    tokens: CorpusTokens
    settings: MergeSettings
    blocks: BlocksWriter
    writer: RunWriter

    def merge(self, layer: int, d_sae: int) -> MergedLayer:
        """Reduce a layer; write its activation file, and its blocks except for features and shown tokens."""
        sums = layer_sums(layer, d_sae, self.partials, self.labels)
        statistics = write_statistics(self.blocks, layer, sums, self.settings)
        top_rows, strongest = self._write_top_positions(layer, d_sae)
        self._write_activations(layer, d_sae)
        if self.settings.contexts:
            write_layer_contexts(self.writer.directory, layer, d_sae, self.partials, self.tokens, strongest)
        return MergedLayer(layer, statistics, sums.active, sums.total, sums.outliers, top_rows, strongest.activation)

    def _write_top_positions(self, layer: int, d_sae: int) -> tuple[np.ndarray, TopPositions]:
        rows, strongest = strongest_positions(self.partials, layer, d_sae, self.settings.top_tokens, self.tokens)
        self.blocks.write_top_positions(layer, strongest)
        return rows, strongest

    def _write_activations(self, layer: int, d_sae: int) -> None:
        heaps = no_entries(d_sae, TOP_DOCUMENTS)
        self.writer.write_activations(layer, self._ordered_activations(layer, heaps))
        self.blocks.write_top_documents(layer, strongest_members(heaps))
        for partial in self.partials:
            self.blocks.write_top_features(layer, partial.document_numbers(), partial.top_features(layer))

    def _ordered_activations(self, layer: int, heaps: np.ndarray) -> Iterator[Activations]:
        """Activations by (feature, document); `heaps` receives the strongest documents of each feature."""
        for features in feature_ranges(self.partials, layer, ACTIVATIONS):
            document, activation = features.columns
            merged = tuple(np.empty(len(document), kind) for kind in (np.int32, np.int32, np.uint32))
            heaps_of_range = heaps[features.start : features.stop]
            merge_activations(features.starts, document, bits_of(activation), self.documents, merged, heaps_of_range)
            feature, document, bits = merged
            feature += features.start
            yield Activations(feature, document, bits.view(np.float32))
