"""Sentences about counts of specificity that are doubtful."""

from __future__ import annotations

import math

from tegakari.schemas.api import Chance
from tegakari.schemas.specificity import SpecificitySettings
from tegakari.store import Run

CHANCE_SHARE = 0.1
"""Share of the label-specific features that permuted labels give, above which a warning says so."""


def sufficient_documents(documents: int, total: int, threshold: float) -> int:
    """Documents of a label in which a feature must be active, and nowhere else, for d above a threshold.

    With equal activations in k of the label's n documents, of N in all, `d^2 = k (N - 2) / (n (n - k))`, so that
    `k > t^2 n^2 / (N - 2 + t^2 n)`.

    Args:
        documents: of the label.
        total: of all labels.
        threshold: of d.
    """
    return math.floor(threshold**2 * documents**2 / (total - 2 + threshold**2 * documents)) + 1


def specificity_warnings(run: Run, settings: SpecificitySettings, specific: int, chance: Chance) -> list[str]:
    """Warnings about labels with few documents, and about counts that are mostly chance."""
    warnings = []
    threshold, total = run.manifest.variety_threshold, sum(run.label_documents)
    sufficient = [sufficient_documents(n, total, threshold) for n in run.label_documents if 2 <= n < total]
    few = sum(number < settings.min_active for number in sufficient)
    if few:
        first, last = min(sufficient), settings.min_active - 1
        warnings.append(
            f"{few} of {len(run.labels)} labels have so few documents that a feature has d > {threshold:g} if it is "
            f"active in {first if first == last else f'{first} to {last}'} documents of the label and in no other."
        )
    if specific and chance.specific.value > CHANCE_SHARE * specific:
        warnings.append(
            f"Permuted labels give {chance.specific.value:.0f} label-specific features, "
            f"{chance.specific.value / specific:.0%} of the {specific} counted."
        )
    return warnings
