"""Statistics and strongest positions of one layer over the whole corpus, reduced from its partials in shard order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

from tegakari.indexer.cohens_d import LabelStatistics, label_statistics
from tegakari.indexer.corpus_tokens import CorpusTokens
from tegakari.indexer.moments import Moments, merge
from tegakari.indexer.partial import LayerPartial, ShardSummary
from tegakari.indexer.top_tokens import Candidates, concatenate, first_distinct, strongest, top_positions
from tegakari.schemas.config import POOLINGS
from tegakari.store.blocks.files import SHOWN_TOKENS, TopPositions


class MergedLayer(NamedTuple):
    """One layer over the whole corpus."""

    layer: int
    statistics: LabelStatistics
    """of each label and pooling, float64 [labels, poolings, d_sae]."""
    documents_active: np.ndarray
    """int32 [labels, poolings, d_sae]: documents of each label in which each feature is active."""
    documents: Moments[np.ndarray]
    """over all documents, float64 [poolings, d_sae]."""
    active: np.ndarray
    """int64 [d_sae]: positions at which each feature is active."""
    total: np.ndarray
    """float64 [d_sae]: sum of the activations of each feature."""
    outliers: int
    """positions that are norm outliers, which no other figure includes."""
    top: Candidates
    """the strongest positions of each feature, by (feature, rank)."""
    top_rows: np.ndarray
    """int64, parallel to `top`: rows of the tokens in `CorpusTokens`."""
    top_positions: TopPositions
    """`top` as matrices [d_sae, top_tokens]."""
    shown_tokens: np.ndarray
    """int32 [d_sae, SHOWN_TOKENS]: the first distinct token texts of each feature's strongest positions, -1 = none."""


def merge_layer(
    layer: int,
    partials: Sequence[LayerPartial],
    summaries: Sequence[ShardSummary],
    *,
    labels: int,
    tokens: CorpusTokens,
    top_tokens: int,
) -> MergedLayer:
    """Reduce the partials of a layer.

    Args:
        layer: the layer.
        partials: of all shards.
        summaries: parallel to `partials`.
        labels: number of labels.
        tokens: of all documents.
        top_tokens: positions per feature.
    """
    d_sae = len(partials[0].active)
    top = strongest(concatenate([partial.candidates for partial in partials]), top_tokens)
    moments = _label_moments(partials, summaries, labels)
    top_rows = tokens.rows(top.document, top.position)
    return MergedLayer(
        layer=layer,
        statistics=label_statistics(moments),
        documents_active=_documents_active(partials, summaries, labels),
        documents=reduce(merge, moments),
        active=np.sum([partial.active for partial in partials], axis=0),
        total=np.sum([partial.total for partial in partials], axis=0),
        outliers=sum(partial.outliers for partial in partials),
        top=top,
        top_rows=top_rows,
        top_positions=top_positions(top, d_sae, top_tokens),
        shown_tokens=first_distinct(top.feature, tokens.text[top_rows], d_sae, SHOWN_TOKENS),
    )


def _label_moments(
    partials: Sequence[LayerPartial], summaries: Sequence[ShardSummary], labels: int
) -> list[Moments[np.ndarray]]:
    zeros = np.zeros((len(POOLINGS), len(partials[0].active)))
    moments = [Moments(0, zeros, zeros) for _ in range(labels)]
    for summary, partial in zip(summaries, partials, strict=True):
        for (label_id, n), mean, m2 in zip(summary.labels.items(), partial.mean, partial.m2, strict=True):
            moments[label_id] = merge(moments[label_id], Moments(n, mean, m2))
    return moments


def _documents_active(partials: Sequence[LayerPartial], summaries: Sequence[ShardSummary], labels: int) -> np.ndarray:
    active = np.zeros((labels, *partials[0].documents_active.shape[1:]), np.int32)
    for summary, partial in zip(summaries, partials, strict=True):
        active[list(summary.labels)] += partial.documents_active
    return active
