"""Contexts and probes of dense activations by plain Python: the definition, sharing no code with the indexer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from tegakari.indexer.shard import IndexedDocument
from tegakari.store.blocks.activations import rounded
from tegakari.store.contexts import FeatureContexts, LayerContexts, Probes

WINDOW = 8
WORD = 2**64


def mixed(number: int) -> int:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 % WORD
    number = (number ^ number >> 27) * 0x94D049BB133111EB % WORD
    return number ^ number >> 31


def seed_of(number: int) -> int:
    """The number-th of SplitMix64's stream of seed 0."""
    return mixed((number + 1) * 0x9E3779B97F4A7C15 % WORD)


def pair_priority(layer: int, feature: int, document: int) -> tuple[int, int]:
    """Documents of a feature are drawn in ascending order of this."""
    return mixed(seed_of((layer + 1) * 2**32 + feature) ^ seed_of(document)) >> 32, document


def probe_priority(document: int) -> tuple[int, int]:
    """Documents of a label become probes in ascending order of this."""
    return mixed(seed_of(2**63) ^ seed_of(document)) >> 32, document


def rounded_or_zero(values: np.ndarray) -> np.ndarray:
    """Activations as stored."""
    return np.where(values > 0, rounded(values), np.float32(0))


def plain_contexts(
    documents: Sequence[IndexedDocument], activations: Sequence[np.ndarray], layer: int, top_tokens: int
) -> LayerContexts:
    """Contexts of a layer.

    Args:
        documents: by number.
        activations: of each document, float32 [countable positions, d_sae].
        layer: the layer.
        top_tokens: strongest positions per feature.
    """
    rows: list[tuple[int, int, int, int, int, float, int, list[float]]] = []
    for feature in range(activations[0].shape[1]):
        columns: list[np.ndarray] = []  # activation at every token
        for document, values in zip(documents, activations, strict=True):
            column = np.zeros(len(document.tokens.input_ids), np.float32)
            column[document.tokens.positions] = values[:, feature]
            columns.append(column)
        strongest = sorted(
            (-float(column[position]), number, position)
            for number, column in enumerate(columns)
            for position in np.flatnonzero(column).tolist()
        )[:top_tokens]
        kept = [(0, rank, number, position) for rank, (_, number, position) in enumerate(strongest, 1)]
        stored = [rounded_or_zero(column) for column in columns]
        kept += _sample(layer, feature, stored)
        for quantile, rank, number, position in kept:
            start = max(0, position - WINDOW)
            window = stored[number][start : position + WINDOW + 1].tolist()
            rows.append((feature, quantile, rank, number, position, float(stored[number][position]), start, window))
    return _as_arrays(rows)


def _sample(layer: int, feature: int, columns: Sequence[np.ndarray]) -> list[tuple[int, int, int, int]]:
    active = [number for number, column in enumerate(columns) if column.any()]
    pool = sorted(active, key=lambda number: pair_priority(layer, feature, number))[:80]
    pool.sort(key=lambda number: (float(columns[number].max()), number))
    contexts = []
    for tenth in range(10):
        members = pool[len(pool) * tenth // 10 : len(pool) * (tenth + 1) // 10]
        members.sort(key=lambda number: pair_priority(layer, feature, number))
        contexts += [
            (tenth + 1, rank, number, int(columns[number].argmax())) for rank, number in enumerate(members[:2], 1)
        ]
    return contexts


def _as_arrays(rows: list[tuple[int, int, int, int, int, float, int, list[float]]]) -> LayerContexts:
    columns = list(zip(*rows, strict=True)) or [()] * 8
    feature, quantile, rank, document, position = (np.array(column, np.int32) for column in columns[:5])
    activations = np.zeros((len(rows), 2 * WINDOW + 1), np.float32)
    for row, window in enumerate(columns[7]):
        activations[row, : len(window)] = window
    length = np.array([len(window) for window in columns[7]], np.int32)
    start = np.array(columns[6], np.int32)
    activation = np.array(columns[5], np.float32)
    return LayerContexts(
        feature, FeatureContexts(quantile, rank, document, position, activation, start, length, activations)
    )


def plain_probes(documents: Sequence[IndexedDocument]) -> Probes:
    """The probes among documents."""
    by_label = sorted(documents, key=lambda document: (document.label_id, probe_priority(document.number)))
    labels = [list(group) for _, group in groupby(by_label, key=lambda document: document.label_id)]
    of_each = 16
    while sum(len(group[:of_each]) for group in labels) < min(256, len(documents)):
        of_each += 1
    probes = sorted((document.number, document.label_id) for group in labels for document in group[:of_each])
    document, label_id = zip(*probes, strict=True)
    return Probes(np.array(document, np.int32), np.array(label_id, np.int32))


def plain_probe_bits(activations: Sequence[np.ndarray], probes: Probes) -> np.ndarray:
    """Whether each feature is active in each probe, bool [d_sae, P]."""
    return np.stack([(activations[number] > 0).any(0) for number in probes.document.tolist()], axis=1)
