"""Encode of SAELens and sparsify, in an interpreter that has both. Started by `benchmarks.encode`.

Imports nothing of tegakari. A line of input names the library; the result is the seconds of one encode.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version

import torch
from torch import Tensor

from benchmarks.peer_program import serve


def make_weights(positions: int, d_model: int, d_sae: int) -> tuple[Tensor, Tensor, Tensor]:
    """Residual, W_enc and b_enc with 5.5 % of the features active, equal in both processes."""
    random = torch.Generator().manual_seed(20261122)
    residual = torch.randn(positions, d_model, generator=random)
    weight = torch.randn(d_model, d_sae, generator=random) / d_model**0.5
    return residual, weight, torch.full((d_sae,), -1.6)


def prepare(positions: int, d_model: int, d_sae: int, k: int, clock: str) -> tuple[str, Callable[[str], float]]:
    from sae_lens import StandardSAE, StandardSAEConfig  # pyright: ignore[reportMissingImports]
    from sparsify import SparseCoder, SparseCoderConfig  # pyright: ignore[reportMissingImports]

    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
    residual, weight, bias = make_weights(positions, d_model, d_sae)
    relu = StandardSAE(StandardSAEConfig(d_in=d_model, d_sae=d_sae, dtype="float32", device="cpu"))
    relu.load_state_dict(
        {"W_enc": weight, "b_enc": bias, "W_dec": weight.T.contiguous(), "b_dec": torch.zeros(d_model)}
    )
    top_k = SparseCoder(d_model, SparseCoderConfig(num_latents=d_sae, k=k), decoder=False)
    top_k.encoder.weight.data.copy_(weight.T)
    top_k.encoder.bias.data.copy_(bias)
    turns = {"sae-lens": lambda: relu.encode(residual).to_sparse_csr(), "sparsify": lambda: top_k.encode(residual)}
    now = getattr(time, clock)

    @torch.no_grad()
    def turn(name: str) -> float:
        start = now()
        turns[name]()
        return now() - start

    return f"SAELens {version('sae-lens')}, sparsify {version('eai-sparsify')}", turn


if __name__ == "__main__":
    serve(lambda: prepare(*map(int, sys.argv[1:5]), clock=sys.argv[5]))
