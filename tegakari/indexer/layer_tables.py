"""Rows of one layer in the tables features, top_tokens and specificity."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tegakari.indexer.layer_statistics import LayerStatistics, MergeSettings
from tegakari.indexer.merge_loops import fill_first_distinct
from tegakari.indexer.top_positions import TopTokens
from tegakari.schemas import tables
from tegakari.schemas.config import POOLINGS
from tegakari.store.blocks.files import SHOWN_TOKENS, TopPositions
from tegakari.store.column_types import arrow_schema


def top_token_rows(layer: int, start: int, positions: TopPositions, tokens: TopTokens) -> pa.Table:
    """Rows of the table top_tokens.

    Args:
        layer: the layer.
        start: the first of F consecutive features.
        positions: their strongest, [F, n].
        tokens: at the positions.
    """
    feature, rank = np.nonzero(positions.document >= 0)
    return pa.table(
        {
            "layer": np.full(len(feature), layer, np.int32),
            "feature": (start + feature).astype(np.int32),
            "rank": (rank + 1).astype(np.int32),
            "activation": positions.activation[feature, rank],
            "document": positions.document[feature, rank],
            "position": positions.position[feature, rank],
            "token_id": tokens.token_id[feature, rank],
            "token": pa.array(tokens.texts, pa.string()).take(pa.array(tokens.text[feature, rank])),
            "char_start": tokens.char_start[feature, rank],
            "char_end": tokens.char_end[feature, rank],
        },
        schema=arrow_schema(tables.TOP_TOKENS),
    )


def shown_texts(tokens: TopTokens) -> pa.ListArray:
    """The first distinct texts of the strongest positions of F features, at most SHOWN_TOKENS of each."""
    distinct = np.full((len(tokens.text), SHOWN_TOKENS), -1, np.int32)
    fill_first_distinct(tokens.text, distinct)
    offsets = np.cumsum([0, *(distinct >= 0).sum(1)], dtype=np.int32)
    texts = pa.array(tokens.texts, pa.string()).take(pa.array(distinct[distinct >= 0]))
    return pa.ListArray.from_arrays(offsets, texts)


def feature_rows(
    layer: int,
    statistics: LayerStatistics,
    strongest: np.ndarray,
    shown: pa.Array,
    positions: int,
    settings: MergeSettings,
) -> pa.Table:
    """Rows of the table features.

    Args:
        layer: the layer.
        statistics: of its features.
        strongest: float32 [d_sae], largest activation of each feature.
        shown: from `shown_texts`, of all features.
        positions: positions of all documents that are no outliers of the layer.
        settings: of the run.
    """
    d_sae = len(statistics.active)
    documents, best = statistics.documents, statistics
    undefined = best.best_label < 0
    document_sd = np.sqrt(documents.m2 / max(documents.n - 1, 1))
    variety = statistics.variety[:, settings.cutoffs.index(settings.variety_threshold)]
    return pa.table(
        {
            "layer": np.full(d_sae, layer, np.int32),
            "feature": np.arange(d_sae, dtype=np.int32),
            "density": statistics.active / max(1, positions),
            "active_positions": statistics.active,
            "mean_activation": statistics.total / np.maximum(statistics.active, 1),
            "max_activation": strongest,
            **{f"variety_{name}": variety[index] for index, name in enumerate(POOLINGS)},
            **{
                f"{name}_{kind}": values[index]
                for index, kind in enumerate(POOLINGS)
                for name, values in (("mean", documents.mean), ("sd", document_sd))
            },
            "best_label_id": pa.array(best.best_label, mask=undefined),
            "best_d": pa.array(best.best_d.astype(np.float32), mask=undefined),
            "best_documents_active": pa.array(best.best_documents_active, mask=undefined),
            "top_tokens": shown,
        }
    )


def specificity_rows(layer: int, variety: np.ndarray, settings: MergeSettings) -> pa.Table:
    """Rows of the table specificity: features by label variety, for each pooling and cut-off of Cohen's d.

    Args:
        layer: the layer.
        variety: of its features, as of `LayerStatistics`.
        settings: of the run.
    """
    rows = []
    threshold = settings.cutoffs.index(settings.variety_threshold)
    # In the order of the table's key: pooling by name, then cut-off, then variety.
    for pooling in sorted(POOLINGS):
        varieties = variety[POOLINGS.index(pooling)]
        is_specific = varieties[threshold] == 1
        for cutoff, labels in zip(settings.cutoffs, varieties, strict=True):
            counts, specific = np.bincount(labels), np.bincount(labels, is_specific)
            rows += [
                (layer, pooling, cutoff, int(number), int(counts[number]), int(specific[number]))
                for number in np.flatnonzero(counts)
            ]
    names = [column.name for column in tables.SPECIFICITY.columns]
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
