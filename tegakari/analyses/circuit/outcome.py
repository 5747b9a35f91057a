"""Outcome of a circuit analysis: effects, shares of layers, sufficiency and necessity, with intervals."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np

from tegakari.analyses.circuit.effects import SMALL_GAIN, Effects, Estimator, mean_of_ratios, ratio_of_means
from tegakari.analyses.circuit.forward import Accuracies
from tegakari.analyses.circuit.pair_intervals import ratio_intervals
from tegakari.analyses.statistics import share_change_interval, share_ratio_interval
from tegakari.models.rerun.components import COMPONENTS, Component
from tegakari.schemas.analysis import Interval
from tegakari.schemas.circuit import Ablated, Band, CircuitSettings, ComponentEffect
from tegakari.store.queries.pairs import Pairs


def component_effects(effects: Effects, pairs: Pairs, settings: CircuitSettings) -> list[ComponentEffect]:
    """Effect of each component by both estimators, and whether it is in the circuit; by layer, attention before MLP."""
    robust, study = (
        ratio_intervals(
            estimator.numerators.reshape(len(estimator.denominators), -1),
            estimator.denominators[:, None],
            pairs,
            settings.seed,
        )
        for estimator in (ratio_of_means(effects, settings.min_gain), mean_of_ratios(effects))
    )
    median = np.median(effects.ratios[effects.reaches(settings.min_gain)], axis=0).ravel()
    places: list[tuple[int, Component]] = [
        (layer, component) for layer in range(effects.change.shape[1]) for component in COMPONENTS
    ]
    rows = []
    for (layer, component), effect, study_effect, median_effect in zip(places, robust, study, median, strict=True):
        member = {"robust": effect.low >= settings.threshold, "study": study_effect.value >= settings.threshold}
        rows.append(
            ComponentEffect(
                layer=layer,
                component=component,
                effect=effect,
                study_effect=study_effect,
                median_effect=float(median_effect),
                in_circuit=member[settings.membership],
                in_robust_circuit=member["robust"],
                in_study_circuit=member["study"],
            )
        )
    return rows


def members(components: list[ComponentEffect]) -> np.ndarray:
    """Whether each component is in the circuit, bool [layers, 2]."""
    return np.array([component.in_circuit for component in components]).reshape(-1, len(COMPONENTS))


def estimator_of(effects: Effects, settings: CircuitSettings) -> Estimator:
    """The estimator that decides about membership."""
    return ratio_of_means(effects, settings.min_gain) if settings.membership == "robust" else mean_of_ratios(effects)


def total_effect(estimator: Estimator, in_circuit: np.ndarray, pairs: Pairs, seed: int) -> Interval:
    """Sum of the effects of the circuit's components.

    Args:
        estimator: of the effects.
        in_circuit: bool [layers, 2].
        pairs: of documents.
        seed: of the interval.
    """
    total = (estimator.numerators * in_circuit).sum((1, 2))
    return ratio_intervals(total[:, None], estimator.denominators[:, None], pairs, seed)[0]


def layer_bands(estimator: Estimator, in_circuit: np.ndarray, pairs: Pairs, seed: int) -> list[Band]:
    """Share of the circuit's total effect in each third of the layers; arguments as of `total_effect`."""
    layers = len(in_circuit)
    bounds = list(pairwise(round(layers * third / 3) for third in range(4)))
    of_layer = (estimator.numerators * in_circuit).sum(2)  # [P, layers]
    bands = np.stack([of_layer[:, first:stop].sum(1) for first, stop in bounds], 1)
    shares = (
        ratio_intervals(bands, np.broadcast_to(of_layer.sum(1)[:, None], bands.shape), pairs, seed)
        if in_circuit.any()
        else [None] * 3
    )
    return [
        Band(
            band=name,
            first=first,
            last=stop - 1,
            components=int(in_circuit[first:stop].sum()),
            share=share,
        )
        for name, (first, stop), share in zip(("early", "middle", "late"), bounds, shares, strict=True)
    ]


def largest_shift(effects: Effects, min_gain: float) -> float:
    """Largest contribution of a pair below the minimum gain to the study's mean effect of a component."""
    ratios = np.abs(effects.ratios[~effects.reaches(min_gain)])
    return float(ratios.max() / len(effects.gain)) if ratios.size else 0.0


def ratio_warning(effects: Effects, components: list[ComponentEffect], settings: CircuitSettings) -> str | None:
    """Sentence that says how unstable the study's mean of ratios is; None where no single tiny gain decides it."""
    shift = largest_shift(effects, settings.min_gain)
    if shift < settings.threshold:
        return None
    small = int((np.abs(effects.gain) < SMALL_GAIN).sum())
    changed = sum(component.in_robust_circuit != component.in_study_circuit for component in components)
    return (
        f"The study's mean of ratios is unstable: one pair with a small gain moves the mean of a component by "
        f"{shift:.2g}, and the threshold is {settings.threshold:g}. {small} of {len(effects.gain)} pairs "
        f"({small / len(effects.gain):.1%}) have a gain below {SMALL_GAIN:g} in absolute value. The two definitions of "
        f"the circuit differ in {changed} of {len(components)} components; the ratio of means is the stable one."
    )


def ablated(by: Literal["mean", "zero"], accuracies: Accuracies) -> Ablated:
    """Sufficiency and necessity of the circuit, for one kind of ablation.

    Args:
        by: kind of ablation.
        accuracies: of the documents.
    """
    full, (kept, removed) = accuracies.full, accuracies.of(by)

    (ratio_low, ratio_high), (low, high) = share_ratio_interval(full, kept), share_change_interval(removed, full)
    ratio = float(kept.mean() / full.mean()) if full.any() else None
    return Ablated(
        by=by,
        accuracy_kept=float(kept.mean()),
        accuracy_removed=float(removed.mean()),
        sufficiency=None if ratio is None else Interval(value=ratio, low=ratio_low, high=ratio_high),
        necessity=Interval(value=float(full.mean() - removed.mean()), low=low, high=high),
    )
