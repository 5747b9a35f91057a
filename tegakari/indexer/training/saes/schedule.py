"""Learning rate and share of the L1 penalty as functions of the training step."""

from __future__ import annotations

from tegakari.schemas.config import SaesConfig

FEW_STEPS = 2000
"""Fewer optimizer steps than this leave SAEs unfinished, however many positions a step has."""


class Schedule:
    """Constant learning rate that falls to 0 at the end; L1 penalty that rises from 0 at the start.

    The rise lets features find their directions before the penalty makes them sparse; the fall lets them converge.
    """

    def __init__(self, settings: SaesConfig, steps: int) -> None:
        self._settings = settings
        self._steps = steps

    def penalty(self, step: int) -> float:
        """Share of the L1 coefficient that applies in a step; the first step is 0."""
        warmup = self._settings.l1_warmup * self._steps
        return min(1.0, step / warmup) if warmup else 1.0

    def learning_rate(self, step: int) -> float:
        """Learning rate of a step; the first step is 0."""
        decay = self._settings.learning_rate_decay * self._steps
        return self._settings.learning_rate * (min(1.0, (self._steps - step) / decay) if decay else 1.0)
