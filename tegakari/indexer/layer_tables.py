"""Rows of one layer in the tables layers, features, top_tokens and specificity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tegakari.indexer.cohens_d import LabelStatistics, best_labels, label_variety
from tegakari.indexer.corpus_tokens import CorpusTokens
from tegakari.indexer.merged_layer import MergedLayer
from tegakari.indexer.top_tokens import ranks
from tegakari.models.explained_variance import LayerQuality
from tegakari.models.outliers import finite_limit
from tegakari.schemas import tables
from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.store.queries.runs import HIGH_D_CUTOFFS


class LayerFacts(NamedTuple):
    """Properties of a layer that its shards do not hold."""

    d_model: int
    d_sae: int
    architecture: str
    max_norm: float | None
    """as of `Sae.max_norm`"""
    quality: LayerQuality | None
    """None: not measured."""


def layer_rows(merged: MergedLayer, facts: LayerFacts, positions: int) -> pa.Table:
    """The row of the table layers.

    Args:
        merged: the layer.
        facts: of the layer.
        positions: positions of all documents, outliers included.
    """
    quality = facts.quality or LayerQuality(0, None, 0, 0, None, 0, None)
    return pa.table(
        {
            "layer": [merged.layer],
            "d_model": [facts.d_model],
            "d_sae": [facts.d_sae],
            "architecture": [facts.architecture],
            "positions": [positions],
            "outlier_positions": [merged.outliers],
            "max_norm": pa.array([finite_limit(facts.max_norm)], pa.float64()),
            "l0": [merged.active.sum() / max(1, positions - merged.outliers)],
            "alive": [int((merged.active > 0).sum())],
            "explained_variance": pa.array([quality.explained_variance], pa.float64()),
            "explained_variance_all": pa.array([quality.explained_variance_all], pa.float64()),
            "outlier_variance": pa.array([quality.outlier_variance], pa.float64()),
            "explained_variance_positions": [quality.positions],
        }
    )


def top_token_rows(merged: MergedLayer, tokens: CorpusTokens) -> pa.Table:
    """Rows of the table top_tokens."""
    top, rows = merged.top, merged.top_rows
    return pa.table(
        {
            "layer": np.full(len(rows), merged.layer, np.int32),
            "feature": top.feature,
            "rank": (ranks(top.feature) + 1).astype(np.int32),
            "activation": top.activation,
            "document": top.document,
            "position": top.position,
            "token_id": tokens.token_id[rows],
            "token": tokens.texts.take(pa.array(tokens.text[rows])),
            "char_start": tokens.char_start[rows],
            "char_end": tokens.char_end[rows],
        }
    )


def feature_rows(
    merged: MergedLayer, tokens: CorpusTokens, *, positions: int, pooling: Pooling, variety_threshold: float
) -> pa.Table:
    """Rows of the table features.

    Args:
        merged: the layer.
        tokens: of all documents.
        positions: positions of all documents, outliers included.
        pooling: the run's pooling, which decides the best label.
        variety_threshold: Cohen's d above which a feature counts for a label.
    """
    d_sae = len(merged.active)
    place = POOLINGS.index(pooling)
    d, documents_active = merged.statistics.d[:, place], merged.documents_active[:, place]
    best_label = best_labels(d, documents_active, merged.statistics.mean[:, place])
    best_d = d[best_label, np.arange(d_sae)]
    undefined = np.isnan(best_d) | (merged.active == 0)  # never active: d is 0 for every label, and none is the best
    n = merged.documents.n
    document_sd = np.sqrt(merged.documents.m2 / max(n - 1, 1))
    variety = label_variety(merged.statistics, variety_threshold)
    token_numbers = merged.shown_tokens
    offsets = np.cumsum([0, *(token_numbers >= 0).sum(1)], dtype=np.int32)
    texts = tokens.texts.take(pa.array(token_numbers[token_numbers >= 0]))
    return pa.table(
        {
            "layer": np.full(d_sae, merged.layer, np.int32),
            "feature": np.arange(d_sae, dtype=np.int32),
            "density": merged.active / max(1, positions - merged.outliers),
            "active_positions": merged.active,
            "mean_activation": merged.total / np.maximum(merged.active, 1),
            "max_activation": merged.top_positions.activation[:, 0],
            **{f"variety_{name}": variety[index] for index, name in enumerate(POOLINGS)},
            **{
                f"{name}_{kind}": values[index]
                for index, kind in enumerate(POOLINGS)
                for name, values in (("mean", merged.documents.mean), ("sd", document_sd))
            },
            "best_label_id": pa.array(best_label.astype(np.int32), mask=undefined),
            "best_d": pa.array(best_d.astype(np.float32), mask=undefined),
            "best_documents_active": pa.array(documents_active[best_label, np.arange(d_sae)], mask=undefined),
            "top_tokens": pa.ListArray.from_arrays(offsets, texts),
        }
    )


def specificity_rows(layer: int, statistics: LabelStatistics, variety_threshold: float) -> pa.Table:
    """Rows of the table specificity: features by label variety, for each pooling and cut-off of Cohen's d."""
    rows = []
    # In the order of the table's key: pooling by name, then cut-off, then variety.
    is_specific = label_variety(statistics, variety_threshold) == 1
    for pooling in sorted(POOLINGS):
        for cutoff in sorted({*HIGH_D_CUTOFFS, variety_threshold}):
            place = POOLINGS.index(pooling)
            variety = label_variety(statistics, cutoff)[place]
            counts, specific = np.bincount(variety), np.bincount(variety, is_specific[place])
            rows += [
                (layer, pooling, cutoff, int(number), int(counts[number]), int(specific[number]))
                for number in np.flatnonzero(counts)
            ]
    names = [column.name for column in tables.SPECIFICITY.columns]
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
