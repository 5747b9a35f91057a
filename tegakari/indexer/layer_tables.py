"""Rows of one layer in the tables layers, features, top_tokens and specificity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tegakari.indexer.corpus_tokens import CorpusTokens
from tegakari.indexer.layer_statistics import MergeSettings
from tegakari.indexer.merge_loops import fill_first_distinct
from tegakari.indexer.merged_layer import MergedLayer
from tegakari.models.explained_variance import LayerQuality
from tegakari.models.outliers import finite_limit
from tegakari.schemas import tables
from tegakari.schemas.config import POOLINGS
from tegakari.store.blocks.files import SHOWN_TOKENS


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
    feature, rank = np.nonzero(merged.top_rows >= 0)
    rows = merged.top_rows[feature, rank]
    document = tokens.document[rows]
    return pa.table(
        {
            "layer": np.full(len(rows), merged.layer, np.int32),
            "feature": feature.astype(np.int32),
            "rank": (rank + 1).astype(np.int32),
            "activation": merged.top_activation[feature, rank],
            "document": document,
            "position": (rows - tokens.offsets[document]).astype(np.int32),
            "token_id": tokens.token_id[rows],
            "token": tokens.texts.take(pa.array(tokens.text[rows])),
            "char_start": tokens.char_start[rows],
            "char_end": tokens.char_end[rows],
        }
    )


def shown_tokens(merged: MergedLayer, tokens: CorpusTokens) -> np.ndarray:
    """The first distinct token texts of each feature's strongest positions; int32 [d_sae, SHOWN_TOKENS], -1 = none."""
    texts = np.where(merged.top_rows >= 0, tokens.text[merged.top_rows], -1)
    distinct = np.full((len(texts), SHOWN_TOKENS), -1, np.int32)
    fill_first_distinct(texts, distinct)
    return distinct


def feature_rows(
    merged: MergedLayer, tokens: CorpusTokens, shown: np.ndarray, positions: int, settings: MergeSettings
) -> pa.Table:
    """Rows of the table features.

    Args:
        merged: the layer.
        tokens: of all documents.
        shown: from `shown_tokens`.
        positions: positions of all documents, outliers included.
        settings: of the run.
    """
    d_sae = len(merged.active)
    documents, best = merged.statistics.documents, merged.statistics
    undefined = best.best_label < 0
    document_sd = np.sqrt(documents.m2 / max(documents.n - 1, 1))
    variety = merged.statistics.variety[:, settings.cutoffs.index(settings.variety_threshold)]
    offsets = np.cumsum([0, *(shown >= 0).sum(1)], dtype=np.int32)
    texts = tokens.texts.take(pa.array(shown[shown >= 0]))
    return pa.table(
        {
            "layer": np.full(d_sae, merged.layer, np.int32),
            "feature": np.arange(d_sae, dtype=np.int32),
            "density": merged.active / max(1, positions - merged.outliers),
            "active_positions": merged.active,
            "mean_activation": merged.total / np.maximum(merged.active, 1),
            "max_activation": merged.top_activation[:, 0],
            **{f"variety_{name}": variety[index] for index, name in enumerate(POOLINGS)},
            **{
                f"{name}_{kind}": values[index]
                for index, kind in enumerate(POOLINGS)
                for name, values in (("mean", documents.mean), ("sd", document_sd))
            },
            "best_label_id": pa.array(best.best_label, mask=undefined),
            "best_d": pa.array(best.best_d.astype(np.float32), mask=undefined),
            "best_documents_active": pa.array(best.best_documents_active, mask=undefined),
            "top_tokens": pa.ListArray.from_arrays(offsets, texts),
        }
    )


def specificity_rows(merged: MergedLayer, settings: MergeSettings) -> pa.Table:
    """Rows of the table specificity: features by label variety, for each pooling and cut-off of Cohen's d."""
    rows = []
    threshold = settings.cutoffs.index(settings.variety_threshold)
    # In the order of the table's key: pooling by name, then cut-off, then variety.
    for pooling in sorted(POOLINGS):
        varieties = merged.statistics.variety[POOLINGS.index(pooling)]
        is_specific = varieties[threshold] == 1
        for cutoff, variety in zip(settings.cutoffs, varieties, strict=True):
            counts, specific = np.bincount(variety), np.bincount(variety, is_specific)
            rows += [
                (merged.layer, pooling, cutoff, int(number), int(counts[number]), int(specific[number]))
                for number in np.flatnonzero(counts)
            ]
    names = [column.name for column in tables.SPECIFICITY.columns]
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
