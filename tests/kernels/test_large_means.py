"""Residuals with a large mean, and residuals with one huge coordinate, against float64.

The encoder subtracts the mean, as a folded `b_dec` does: products are up to a thousand times as large as activations,
and a rounded product would leave the activation no digits. So the tolerance is relative to the activations.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tegakari.kernels import Encoder
from tests.support.kernel_cases import DEVICE, KINDS, PATHS, Case, dense_of
from tests.support.kernel_oracle import expected

D_MODEL, D_SAE, LENGTHS = 256, 192, [20, 1, 27]
DENSITY = 0.1
"""Share of the positions at which a feature is active."""
TOLERANCE = 0.01
"""Maximum difference, relative to the median activation."""
SHARE = 0.005
"""Share of the activations that may differ by more than the tolerance."""
MASSIVE = 1000
"""Size of one coordinate at one position, in spreads."""

INTERPRETED = {
    ("triton", "jumprelu"),
    ("triton", "topk"),
    ("triton", "gated"),
}
"""Cases for the slow interpreter, in bfloat16; a GPU runs all."""
PARAMETERS = [
    (path, kind, dtype)
    for path in PATHS
    for kind in KINDS
    for dtype in (torch.bfloat16, torch.float32)
    if not path.startswith("triton")
    or DEVICE.type == "cuda"
    or ((path, kind) in INTERPRETED and dtype == torch.bfloat16)
]


def case_of(kind: str, dtype: torch.dtype, mean: float, *, massive: bool) -> Case:
    """Residuals of spread 1 around a mean of this size, and an SAE that subtracts the mean."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    b_dec = mean * normal(D_MODEL)
    residual = b_dec + normal(sum(LENGTHS), D_MODEL)
    if massive:
        residual[25, 7] += MASSIVE
    residual = residual.to(dtype)
    weight = (normal(D_MODEL, D_SAE) / D_MODEL**0.5).to(dtype)
    shift = -(b_dec @ weight.double())
    centred = residual.double() @ weight.double() + shift
    opening = -centred.quantile(1 - DENSITY, dim=0)
    threshold = normal(D_SAE).abs() if kind == "jumprelu" else torch.zeros(D_SAE)
    gain = (0.3 * normal(D_SAE)).exp()
    encoder = Encoder(
        weight=weight,
        bias=(shift + opening + threshold).float(),
        threshold=threshold.float(),
        k=int(DENSITY * D_SAE) if kind == "topk" else None,
        gate_scale=gain.float() if kind == "gated" else None,
        gate_bias=(gain * (shift + opening + 0.1)).float() if kind == "gated" else None,
    )
    return Case(residual, encoder, torch.tensor([0, *LENGTHS]).cumsum(0), torch.zeros(D_SAE))


@pytest.mark.parametrize(
    ("path", "kind", "dtype", "mean", "massive"),
    [
        (*parameters, mean, massive)
        for parameters in PARAMETERS
        for mean in (0, 10, 1000)
        for massive in (False, True)
        if parameters[:2] != ("triton", "topk") or DEVICE.type == "cuda" or (mean, massive) == (1000, True)
    ],  # the interpreter takes 12 s for one case of top-k
)
def test_activations_near_float64(path: str, kind: str, dtype: torch.dtype, mean: int, massive: bool) -> None:
    case = case_of(kind, dtype, mean, massive=massive)
    result = PATHS[path](case.residual, case.encoder, case.offsets, rows="all")
    oracle = expected(case.residual, case.encoder, case.offsets)
    active = oracle.dense > 0
    assert DENSITY / 2 < active.mean() < 2 * DENSITY
    tolerance, allowed = TOLERANCE * np.median(oracle.dense[active]), SHARE * active.sum()
    tables = [(dense_of(result.rows, D_SAE).numpy(), oracle.dense)]
    tables += [(getattr(result.pooled, name).cpu().numpy(), getattr(oracle, name)) for name in ("last", "max", "mean")]
    for actual, reference in tables:
        assert (np.abs(actual - reference) > tolerance).sum() <= allowed  # an activation is in one entry of every table
