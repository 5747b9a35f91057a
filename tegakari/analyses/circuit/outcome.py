"""Outcome of a circuit analysis: effects, shares of layers, sufficiency and necessity, with intervals."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tegakari.analyses.circuit.forward import Accuracies
from tegakari.analyses.statistics import interval_of_mean, interval_of_statistic
from tegakari.models.rerun.components import COMPONENTS
from tegakari.schemas.analysis import Interval
from tegakari.schemas.circuit import Ablated, Band, ComponentEffect


def component_effects(effects: np.ndarray, in_circuit: np.ndarray, seed: int) -> list[ComponentEffect]:
    """Mean effect of each component over the pairs, by layer, attention before MLP.

    Args:
        effects: float64 [P, layers, 2], in each pair.
        in_circuit: bool [layers, 2].
        seed: of the intervals.
    """
    return [
        ComponentEffect(
            layer=layer,
            component=component,
            effect=interval_of_mean(effects[:, layer, number], seed),
            in_circuit=bool(in_circuit[layer, number]),
        )
        for layer in range(effects.shape[1])
        for number, component in enumerate(COMPONENTS)
    ]


def total_effect(effects: np.ndarray, in_circuit: np.ndarray, seed: int) -> Interval:
    """Sum of the circuit's effects, mean over the pairs; arguments as of `component_effects`."""
    return interval_of_mean((effects * in_circuit).sum((1, 2)), seed)


def layer_bands(effects: np.ndarray, in_circuit: np.ndarray, seed: int) -> list[Band]:
    """Share of the circuit's total effect in each third of the layers; arguments as of `component_effects`."""
    layers = effects.shape[1]
    edges = [round(layers * third / 3) for third in range(4)]
    of_layer = (effects * in_circuit).sum(2)  # [P, layers]
    bands = []
    for name, first, stop in zip(("early", "middle", "late"), edges, edges[1:], strict=False):

        def share(rows: np.ndarray, first: int = first, stop: int = stop) -> float:
            means = of_layer[rows].mean(0)
            return float(means[first:stop].sum() / means.sum()) if means.sum() else float("nan")

        bands.append(
            Band(
                band=name,
                first=first,
                last=stop - 1,
                components=int(in_circuit[first:stop].sum()),
                share=interval_of_statistic(share, len(effects), seed) if in_circuit.any() else None,
            )
        )
    return bands


def ablated(by: Literal["mean", "zero"], accuracies: Accuracies, seed: int) -> Ablated:
    """Sufficiency and necessity of the circuit, for one kind of ablation.

    Args:
        by: kind of ablation.
        accuracies: of the documents.
        seed: of the intervals.
    """
    full, (kept, removed) = accuracies.full, accuracies.of(by)

    def ratio(rows: np.ndarray) -> float:
        return float(kept[rows].mean() / full[rows].mean()) if full[rows].any() else float("nan")

    return Ablated(
        by=by,
        accuracy_kept=float(kept.mean()),
        accuracy_removed=float(removed.mean()),
        sufficiency=interval_of_statistic(ratio, len(full), seed) if full.any() else None,
        necessity=interval_of_mean(full.astype(float) - removed, seed),
    )
