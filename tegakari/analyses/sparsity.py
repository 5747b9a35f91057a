"""Sparsity: the number of active features per document, and the share of the strongest (the study, A.3)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tegakari.analyses.statistics import interval_of_mean
from tegakari.schemas.study import LayerSparsity, SparsityResult
from tegakari.store import Run
from tegakari.store.queries.runs import layer_l0

TOP = 20
"""Strongest features of a document whose share is computed; a run stores as many per document."""


class SparsityValues(NamedTuple):
    """Sparsity of each document in each layer."""

    active: np.ndarray
    """int64 [layers, D]: features with a non-zero pooled activation"""
    ratio: np.ndarray
    """float64 [layers, D]: share of the 20 strongest in the sum of activations; NaN where no feature is active"""


def sparsity_values(run: Run) -> SparsityValues:
    """Counts and shares of every document, from the stored activations, layer by layer."""
    documents, layers = run.manifest.corpus.documents, run.manifest.saes.layers
    active, ratio = np.empty((len(layers), documents), np.int64), np.empty((len(layers), documents))
    for number, layer in enumerate(layers):
        totals = run.activation_totals(layer)
        strongest = run.blocks.top_features.activation[number, :, :TOP].astype(np.float64).sum(1)
        active[number] = totals.active
        ratio[number] = np.divide(strongest, totals.mass, out=np.full(documents, np.nan), where=totals.mass > 0)
    return SparsityValues(active, ratio)


def sparsity(run: Run, *, seed: int = 0) -> SparsityResult:
    """Table 7 of the study for one run: each layer, and the mean over layers.

    Args:
        run: published.
        seed: of the intervals.
    """
    values = sparsity_values(run)
    per_position = layer_l0(run)
    has_ratio = ~np.isnan(values.ratio).any(0)
    return SparsityResult(
        run=run.name,
        pooling=run.manifest.pooling,
        documents=values.active.shape[1],
        active=interval_of_mean(values.active.mean(0), seed),
        active_of_all_layers=float(values.active.sum(0).mean()),
        per_position=float(np.mean(per_position)),
        top20_ratio=interval_of_mean(values.ratio[:, has_ratio].mean(0), seed) if has_ratio.any() else None,
        layers=[
            LayerSparsity(
                layer=layer,
                active=interval_of_mean(active.astype(np.float64), seed),
                per_position=l0,
                top20_ratio=interval_of_mean(ratio[~np.isnan(ratio)], seed) if not np.isnan(ratio).all() else None,
                silent=int(np.isnan(ratio).sum()),
            )
            for layer, active, l0, ratio in zip(
                run.manifest.saes.layers, values.active, per_position, values.ratio, strict=True
            )
        ],
    )
