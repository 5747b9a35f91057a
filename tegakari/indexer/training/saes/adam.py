"""What both implementations of Adam share: constants, state, and the rows of the decoder, which keep norm 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

BETAS = (0.9, 0.999)
"""Decay of the running means of the gradient and of its square."""

EPSILON = 1e-8
"""Added to the root of the mean square."""

UNIT_ROWS = "W_dec"
"""The parameter whose rows keep norm 1, and whose gradient has no component along them."""


class Adam(Protocol):
    """Adam (Kingma and Ba 2015) without weight decay."""

    def step(self, learning_rate: float) -> None:
        """Change every parameter by its gradient, and write its value as operand of products."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """State by `<parameter>.exp_avg`, `<parameter>.exp_avg_sq` and `<parameter>.step`; empty before a step."""
        ...

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state of `tensors`, from any device and any implementation."""
        ...
