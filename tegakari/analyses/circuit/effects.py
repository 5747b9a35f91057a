"""Change of a logit by each patch, and the two estimators of a component's effect (the study, equation 1)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

MIN_STUDY_GAIN = 1e-6
"""Smallest gain with an effect in the study's mean of ratios; below it the effect counts as 0."""

SMALL_GAIN = 0.05
"""Gains below it, in logits, make a ratio larger than the change that it stands for by a factor of 20 or more."""


class Effects(NamedTuple):
    """Changes and gains of pairs, in the order of the pairs."""

    change: np.ndarray
    """float64 [P, layers, 2]: patched minus corrupted logit of the clean document's label"""
    gain: np.ndarray
    """float64 [P]: clean minus corrupted logit of the same label"""
    spread: float
    """standard deviation of a label's logit over the clean documents: root mean square over the labels"""

    @property
    def ratios(self) -> np.ndarray:
        """The study's effects, float64 [P, layers, 2]: change / gain; 0 for a gain below MIN_STUDY_GAIN."""
        has_effect = self.gain >= MIN_STUDY_GAIN
        return np.where(
            has_effect[:, None, None], self.change / np.where(has_effect, self.gain, 1.0)[:, None, None], 0.0
        )

    def reaches(self, min_gain: float) -> np.ndarray:
        """Pairs with at least a gain in units of the spread, bool [P]; a gain below MIN_STUDY_GAIN never suffices."""
        return self.gain >= max(min_gain * self.spread, MIN_STUDY_GAIN)


class Estimator(NamedTuple):
    """Effect of each component as sum of numerators / sum of denominators over the pairs."""

    numerators: np.ndarray
    """float64 [P, layers, 2]"""
    denominators: np.ndarray
    """float64 [P]"""

    @property
    def effect(self) -> np.ndarray:
        """Effect of each component, float64 [layers, 2]."""
        return self.numerators.sum(0) / self.denominators.sum()


def ratio_of_means(effects: Effects, min_gain: float) -> Estimator:
    """Sum of changes / sum of gains over the pairs that reach a gain: the robust estimator.

    Args:
        effects: of the pairs, of which at least one reaches the gain.
        min_gain: in units of the logits' spread.
    """
    pairs = effects.reaches(min_gain)
    return Estimator(effects.change * pairs[:, None, None], effects.gain * pairs)


def mean_of_ratios(effects: Effects) -> Estimator:
    """Mean of change / gain over all pairs: the study's estimator. A pair with a tiny gain can decide it alone."""
    return Estimator(effects.ratios, np.ones(len(effects.gain)))


def patch_changes(clean: Tensor, corrupted: Tensor, patched: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Change of a label's logit by each patch, and the gain that a patch could restore.

    Args:
        clean: float32 [P, labels], logits of the clean documents.
        corrupted: float32 [P, labels], logits of the corrupted documents.
        patched: float32 [P, layers, 2, labels], logits of the corrupted documents with one component patched.
        label: int64 [P], the clean document's label.

    Returns:
        float64 [P, layers, 2] and float64 [P].
    """
    pairs = torch.arange(len(label), device=label.device)
    z_clean, z_corrupted = clean[pairs, label].double(), corrupted[pairs, label].double()
    return patched[pairs, :, :, label].double() - z_corrupted[:, None, None], z_clean - z_corrupted
