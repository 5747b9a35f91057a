"""Ablations of an attribution: each candidate alone, a greedy set, and the random control of that set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tegakari.analyses.attribution.candidates import ActiveFeatures
from tegakari.analyses.knockout.margin import margins

NEAREST = 10
"""A feature's substitute in the control is drawn from this many features of its layer, those of nearest activation."""

FeatureNumbers = Sequence[int]
"""Numbers of features in `ActiveFeatures`."""

LogitsOf = Callable[[Sequence[FeatureNumbers]], np.ndarray]
"""Logits of the text with each set of features ablated, float32 [sets, labels]."""


class GreedyStep(NamedTuple):
    """A feature of the greedy set."""

    number: int
    logits: np.ndarray
    """float32 [labels], with it and those before it ablated"""


def margins_of(logits: np.ndarray, label: int) -> np.ndarray:
    """Margin of a label in each row of logits, float32 [n, labels] -> float64 [n]."""
    return margins(logits, np.full(len(logits), label))


def greedy_set(
    logits_of: LogitsOf, candidates: FeatureNumbers, singles: np.ndarray, label: int, margin: float, max_set: int
) -> list[GreedyStep]:
    """Features by greedy search: each step ablates the candidate that leaves the smallest margin, ties in their order.

    It ends when another label is predicted, when no candidate lowers the margin further, or with `max_set` features.

    Args:
        logits_of: re-runs the text.
        candidates: in order.
        singles: float32 [candidates, labels], logits with each alone ablated: the first step.
        label: class whose margin is lowered.
        margin: with all features.
        max_set: maximum number of features.
    """
    steps: list[GreedyStep] = []
    remaining = list(candidates)
    logits = singles
    while remaining and len(steps) < max_set and margin > 0:
        if steps:
            ablated = [step.number for step in steps]
            logits = logits_of([[*ablated, number] for number in remaining])
        left = margins_of(logits, label)
        best = int(left.argmin())
        if left[best] >= margin:
            break
        margin = float(left[best])
        steps.append(GreedyStep(remaining.pop(best), logits[best]))
    return steps


def draw_substitutes(active: ActiveFeatures, ablated: FeatureNumbers, draws: int, seed: int) -> list[list[int]] | None:
    """Control sets: per ablated feature another active one of its layer, of similar activation.

    Args:
        active: of the text.
        ablated: the greedy set, in its order.
        draws: number of sets.
        seed: of the draws.

    Returns:
        per draw the substitutes, in the order of `ablated`; None if a layer has too few.
    """
    generator = np.random.default_rng(seed)
    layers = np.array([feature.layer for feature in active.features])
    level = np.log(np.maximum(active.reaching, np.finfo(np.float32).tiny))
    others = np.setdiff1d(np.flatnonzero(active.reaching), ablated)
    sets: list[list[int]] = []
    for _ in range(draws):
        drawn: list[int] = []
        for number in ablated:
            remaining = np.setdiff1d(others[layers[others] == layers[number]], drawn)
            if not len(remaining):
                return None
            distance = np.abs(level[remaining] - level[number])
            drawn.append(int(generator.choice(remaining[np.argsort(distance, kind="stable")[:NEAREST]])))
        sets.append(drawn)
    return sets
