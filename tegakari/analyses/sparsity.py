"""How many features are active, and how much the strongest carry (the study, A.3)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tegakari.analyses.statistics import mean_interval
from tegakari.schemas.analysis import Interval
from tegakari.schemas.study import LayerSparsity, SparsityResult
from tegakari.store import Run
from tegakari.store.queries.runs import layer_l0

TOP = 20
"""Strongest features of a document whose share is taken; as many as a run keeps of each."""


class SparsityValues(NamedTuple):
    """Of each document in each layer."""

    active: np.ndarray
    """int64 [layers, D]: features that are not zero"""
    ratio: np.ndarray
    """float64 [layers, D]: share of the 20 strongest; NaN where no feature is active"""


def sparsity_values(run: Run) -> SparsityValues:
    """Counts and shares of every document, from the activations as stored, layer by layer."""
    documents, layers = run.manifest.corpus.documents, run.manifest.saes.layers
    active, ratio = np.empty((len(layers), documents), np.int64), np.empty((len(layers), documents))
    for at, layer in enumerate(layers):
        totals = run.activation_totals(layer)
        strongest = run.blocks.top_features.activation[at, :, :TOP].astype(np.float64).sum(1)
        active[at] = totals.active
        ratio[at] = np.divide(strongest, totals.mass, out=np.full(documents, np.nan), where=totals.mass > 0)
    return SparsityValues(active, ratio)


def sparsity(run: Run, *, seed: int = 0) -> SparsityResult:
    """Table 7 of the study for one run. Its layers one by one, and the mean over them."""
    values = sparsity_values(run)
    per_position = layer_l0(run)
    some = ~np.isnan(values.ratio).any(0)
    return SparsityResult(
        run=run.name,
        pooling=run.manifest.pooling,
        documents=values.active.shape[1],
        active=_mean(values.active.mean(0), seed),
        active_of_all_layers=float(values.active.sum(0).mean()),
        per_position=float(np.mean(per_position)),
        top20_ratio=_mean(values.ratio[:, some].mean(0), seed) if some.any() else None,
        layers=[
            LayerSparsity(
                layer=layer,
                active=_mean(active, seed),
                per_position=l0,
                top20_ratio=_mean(ratio[~np.isnan(ratio)], seed) if not np.isnan(ratio).all() else None,
                silent=int(np.isnan(ratio).sum()),
            )
            for layer, active, l0, ratio in zip(
                run.manifest.saes.layers, values.active, per_position, values.ratio, strict=True
            )
        ],
    )


def _mean(values: np.ndarray, seed: int) -> Interval:
    low, high = mean_interval(values.astype(np.float64), seed)
    return Interval(value=float(values.mean()), low=low, high=high)
