"""Other features to take out instead, so that an effect is not taken for what any features would do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.knockout import LayerFeature
from tegakari.store import Run

FeatureSet = tuple[LayerFeature, ...]

NEAREST = 10
"""Features nearest in density to one that is taken out, of which its stand-in is drawn."""


class Controls(NamedTuple):
    """Drawn sets of features, as many of each layer as are taken out."""

    random: list[FeatureSet]
    matched: list[FeatureSet]
    """each feature about as active as the one it stands for."""


def draw_controls(run: Run, taken: Iterable[LayerFeature], draws: int, seed: int) -> Controls:
    """Draw features that are active in the corpus and not taken out.

    Raises:
        NotFoundError: a layer does not have as many.
    """
    by_layer: dict[int, list[int]] = {}
    for each in taken:
        by_layer.setdefault(each.layer, []).append(each.feature)
    if not by_layer or not draws:
        return Controls([], [])
    layers = {layer: (features, *_others(run, layer, features)) for layer, features in sorted(by_layer.items())}
    draw, matching = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    random, matched = [], []
    for _ in range(draws):
        random.append(
            _set(
                (layer, draw.choice(others, len(features), replace=False).tolist())
                for layer, (features, others, _) in layers.items()
            )
        )
        matched.append(
            _set(
                (layer, _as_active(matching, features, others, active))
                for layer, (features, others, active) in layers.items()
            )
        )
    return Controls(random, matched)


def _others(run: Run, layer: int, taken: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Active features of a layer but for these, and on how many positions each feature is active."""
    active = np.asarray(run.blocks.features["active_positions"][run.blocks.places.slice_of(layer)])
    others = np.setdiff1d(np.flatnonzero(active), taken)
    if len(others) < len(taken):
        raise NotFoundError(
            f"layer {layer} has {len(others)} other active features, a control of {len(taken)} cannot be drawn",
            field="draws",
            fix="take out fewer features, or ask for no draws",
        )
    return others, active


def _as_active(draw: np.random.Generator, taken: Sequence[int], others: np.ndarray, active: np.ndarray) -> list[int]:
    """For each feature taken out one of those nearest to it in the logarithm of density, each used once."""
    level = np.log(np.maximum(active, 1))
    left, chosen = others, []
    for feature in sorted(taken, key=lambda each: (-active[each], each)):
        nearest = left[np.argsort(np.abs(level[left] - level[feature]), kind="stable")[:NEAREST]]
        chosen.append(int(draw.choice(nearest)))
        left = left[left != chosen[-1]]
    return chosen


def _set(layers: Iterable[tuple[int, list[int]]]) -> FeatureSet:
    return tuple(LayerFeature(layer, feature) for layer, features in layers for feature in sorted(features))
