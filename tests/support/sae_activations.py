"""Activations and reconstructions of an SAE through sparse encode, and their comparison with those of its library."""

from __future__ import annotations

import numpy as np
import torch

from tegakari.kernels import encode
from tegakari.models.sae import Sae


def activations_of(sae: Sae, h: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Dense activations [T, d_sae] of residuals [T, d_model] through sparse encode."""
    rows = encode(torch.from_numpy(h).float(), sae.encoder(dtype), torch.tensor([0, len(h)]), rows="all").rows
    assert rows is not None
    dense = torch.zeros(len(h), sae.d_sae)
    dense[torch.repeat_interleave(torch.arange(len(h)), rows.indptr.diff()), rows.feature.long()] = rows.activation
    return dense


def assert_encodes(sae: Sae, h: np.ndarray, expected: tuple[np.ndarray, np.ndarray], *, rtol: float = 1e-5) -> None:
    """Assert the activations [T, d_sae] and reconstructions [T, d_model] of residuals h [T, d_model]."""
    activations, reconstructions = expected
    a = activations_of(sae, h)
    np.testing.assert_allclose(a.numpy(), activations, rtol=rtol, atol=1e-4)
    np.testing.assert_allclose(
        sae.decode(a, torch.from_numpy(h).float()).numpy(), reconstructions, rtol=rtol, atol=1e-3
    )
    assert 0 < np.count_nonzero(activations) < activations.size  # some features are active, some are not
