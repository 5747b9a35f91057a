"""Gemma Scope: params.npz, JumpReLU, no configuration; b_dec is not subtracted from the input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tegakari.models.sae import Sae
from tegakari.models.sae_formats.format import SaeFormat

WEIGHTS = "params.npz"


def load(directory: Path) -> Sae:
    """Read a residual SAE of Gemma Scope."""
    with np.load(directory / WEIGHTS, allow_pickle=False) as arrays:
        return Sae(
            W_enc=_tensor(arrays["W_enc"]),
            W_dec=_tensor(arrays["W_dec"]),
            b_enc=_tensor(arrays["b_enc"]),
            b_dec=_tensor(arrays["b_dec"]),
            threshold=_tensor(arrays["threshold"]),
            activation="jumprelu",
            apply_b_dec_to_input=False,
        )


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32))


FORMAT = SaeFormat("Gemma Scope", (WEIGHTS,), load)
