"""Contexts and probes of one layer over the whole corpus, from the partials of all shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tegakari.indexer.context_loops import select_contexts
from tegakari.indexer.corpus_documents import CorpusDocuments
from tegakari.indexer.feature_ranges import FeatureRange, equal_ranges, feature_ranges
from tegakari.indexer.partial import CONTEXTS, Partial
from tegakari.indexer.priority import feature_seeds, pair_priorities
from tegakari.indexer.shard import IndexedDocument, probe_documents
from tegakari.store.blocks.activations import rounded
from tegakari.store.blocks.files import TopPositions
from tegakari.store.context_writer import write_contexts, write_probe_bits, write_probes
from tegakari.store.contexts import (
    TENTH_CONTEXTS,
    TENTHS,
    WINDOW_TOKENS,
    FeatureContexts,
    LayerContexts,
    Probes,
)

FEATURES_AT_ONCE = 1024
"""Features whose contexts are in memory at once: 24 MB with 100 strongest positions."""

PROBE_BYTES = 4
"""Memory per feature and probe: bits as read, as bytes, in order, and as stored."""


def write_layer_contexts(
    directory: Path,
    layer: int,
    d_sae: int,
    partials: Sequence[Partial],
    corpus: CorpusDocuments,
    strongest: TopPositions,
    memory: int,
) -> None:
    """Write the contexts of a layer, and in which probes its features are active.

    Args:
        directory: of the run's files or of its additions.
        layer: the layer.
        d_sae: its features.
        partials: of all shards.
        corpus: all documents.
        strongest: positions of the layer, [d_sae, top_tokens].
        memory: bytes to take at most.
    """
    write_contexts(directory, layer, _contexts(layer, d_sae, partials, corpus, strongest, memory))
    order = np.argsort(np.concatenate([partial.summary.probes for partial in partials]))
    ranges = equal_ranges(d_sae, memory // (PROBE_BYTES * len(order)))
    parts = (_probe_bits(layer, partials, order, *features) for features in ranges)
    write_probe_bits(directory, layer, parts, (d_sae, len(order)))


def _probe_bits(layer: int, partials: Sequence[Partial], order: np.ndarray, start: int, stop: int) -> np.ndarray:
    """In which probes, by number, the features of a range are active; bool [features, probes]."""
    return np.concatenate([partial.probes(layer, start, stop) for partial in partials])[order].T


def write_probe_documents(directory: Path, documents: Sequence[IndexedDocument]) -> None:
    """Write the list of probes; `documents` by number."""
    probes = probe_documents(documents)
    label_id = [documents[number].label_id for number in probes]
    write_probes(directory, Probes(np.array(probes, np.int32), np.array(label_id, np.int32)))


def _contexts(
    layer: int,
    d_sae: int,
    partials: Sequence[Partial],
    corpus: CorpusDocuments,
    strongest: TopPositions,
    memory: int,
) -> Iterator[LayerContexts]:
    lengths = np.diff(corpus.offsets)
    for features in feature_ranges(partials, layer, d_sae, CONTEXTS, memory):
        document, position, activation = features.columns
        entries = document, position, rounded(activation)
        priorities = _priorities(layer, features)
        for first in range(features.start, features.stop, FEATURES_AT_ONCE):
            stop = min(features.stop, first + FEATURES_AT_ONCE)
            starts = features.starts[:, first - features.start : stop - features.start + 1]
            positions = strongest.document[first:stop], strongest.position[first:stop]
            yield _of_features(first, starts, entries, priorities, positions, lengths)


def _of_features(
    first: int,
    starts: np.ndarray,
    entries: tuple[np.ndarray, ...],
    priorities: np.ndarray,
    positions: tuple[np.ndarray, np.ndarray],
    lengths: np.ndarray,
) -> LayerContexts:
    """Contexts of consecutive features from `first` on; other arguments as of `select_contexts`."""
    shape = len(positions[0]), positions[0].shape[1] + TENTHS * TENTH_CONTEXTS
    counts = np.zeros(shape[0], np.int64)
    numbers = np.zeros((*shape, 6), np.int32)
    values = np.zeros((*shape, 1 + WINDOW_TOKENS), np.float32)
    select_contexts(starts, entries, priorities, positions, lengths, counts, numbers, values)
    kept = np.arange(shape[1]) < counts[:, None]
    quantile, rank, of_document, at, start, length = np.ascontiguousarray(numbers[kept].T)
    return LayerContexts(
        np.repeat(np.arange(first, first + len(counts), dtype=np.int32), counts),
        FeatureContexts(quantile, rank, of_document, at, values[kept][:, 0], start, length, values[kept][:, 1:]),
    )


def _priorities(layer: int, features: FeatureRange) -> np.ndarray:
    """Priority of the pair of each entry of a range, int64 [N]."""
    seeds = feature_seeds(layer, np.arange(features.start, features.stop))
    sizes = np.diff(features.starts, axis=1)
    of_entries = np.concatenate([np.repeat(seeds, of_shard) for of_shard in sizes])
    return pair_priorities(of_entries, features.columns[0].astype(np.int64))
