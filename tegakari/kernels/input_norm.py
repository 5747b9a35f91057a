"""Per-token normalisation of an SAE's input: a factor of each position, computed from its residual.

A mean that is subtracted from a position is folded into the encoder's weight, since `(h - mean(h)) W` is `h` times W
without the means of its columns. What is left is one factor per position, by which every path multiplies its products:

    pre-activation = factor(h) * (weight^T h) + bias
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tegakari.kernels.types import Encoder, InputNorm

EPSILON = 1e-5
"""Added to the standard deviation by `layer_norm`, as SAELens and OpenAI's sparse_autoencoder do."""
LEAST_NORM = 1e-20
"""Minimum divisor of constant_norm: a residual of zeros stays zero."""


class TokenStatistics(NamedTuple):
    """Statistics of the residuals [T, d_model] that an input norm needs."""

    mean: Tensor
    """[T] float32: over d_model"""
    factor: Tensor
    """[T] float32: factor of the input, `x = factor * (h - mean)`, or `factor * h` where the mean stays"""
    size: Tensor
    """[T] float32: factor of the output, by which the library's decoder multiplies a reconstruction of x"""


def token_statistics(residual: Tensor, norm: InputNorm, *, centred: bool) -> TokenStatistics:
    """Statistics of each position for an input norm.

    Formulas are those of SAELens 6 (`run_time_activation_norm_fn_in` and `_out`), whose decoder multiplies by the
    standard deviation itself and whose encoder divides by it plus `EPSILON`.

    Args:
        residual: [T, d_model], of any floating dtype; computed in float32.
        norm: of the SAE.
        centred: whether the mean over d_model is subtracted before; layer_norm always does.
    """
    h = residual.float()
    d_model = h.shape[1]
    mean = h.mean(1)
    one = torch.ones_like(mean)
    match norm:
        case "none":
            return TokenStatistics(mean, one, one)
        case "constant_norm":
            length = (h - mean[:, None] if centred else h).norm(dim=1).clamp_min(LEAST_NORM)
            return TokenStatistics(mean, d_model**0.5 / length, length / d_model**0.5)
        case "layer_norm":
            deviation = h.std(1)
            return TokenStatistics(mean, 1 / (deviation + EPSILON), deviation)


def input_factors(residual: Tensor, encoder: Encoder) -> Tensor | None:
    """Factor of the products of each position, [T] float32; None: the encoder has no input norm."""
    if encoder.input_norm == "none":
        return None
    return token_statistics(residual, encoder.input_norm, centred=encoder.centred).factor
