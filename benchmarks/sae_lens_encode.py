"""SAELens' encode in an interpreter that has SAELens: answers a line on its input with the seconds of one encode.

Started by `benchmarks.encode`; imports nothing of tegakari.
"""

from __future__ import annotations

import sys
import time
import warnings

import torch
from torch import Tensor


def make_weights(positions: int, d_model: int, d_sae: int) -> tuple[Tensor, Tensor, Tensor]:
    """Residual, W_enc and b_enc with 5.5 % of the features active, alike in both processes."""
    random = torch.Generator().manual_seed(20261122)
    residual = torch.randn(positions, d_model, generator=random)
    weight = torch.randn(d_model, d_sae, generator=random) / d_model**0.5
    return residual, weight, torch.full((d_sae,), -1.6)


def main(positions: int, d_model: int, d_sae: int, clock: str) -> None:
    from importlib.metadata import version

    from sae_lens import StandardSAE, StandardSAEConfig  # pyright: ignore[reportMissingImports]

    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
    residual, weight, bias = make_weights(positions, d_model, d_sae)
    sae = StandardSAE(StandardSAEConfig(d_in=d_model, d_sae=d_sae, dtype="float32", device="cpu"))
    sae.load_state_dict({"W_enc": weight, "b_enc": bias, "W_dec": weight.T.contiguous(), "b_dec": torch.zeros(d_model)})
    sys.stdout.write(version("sae-lens") + "\n")
    sys.stdout.flush()
    now = getattr(time, clock)
    with torch.no_grad():
        for _ in sys.stdin:
            start = now()
            sae.encode(residual).to_sparse_csr()
            sys.stdout.write(f"{now() - start}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), clock=sys.argv[4])
