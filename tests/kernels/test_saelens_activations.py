"""Activations of encode against those of SAELens, where SAELens is installed; it is not a dependency."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from tegakari.kernels import Encoder, encode
from tests.support.kernel_cases import dense_of

pytestmark = pytest.mark.skipif(find_spec("sae_lens") is None, reason="sae-lens is not installed")

POSITIONS, D_MODEL, D_SAE, K = 40, 24, 90, 7


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    shapes = {"residual": (POSITIONS, D_MODEL), "W_enc": (D_MODEL, D_SAE), "W_dec": (D_SAE, D_MODEL)}
    vectors = ("b_enc", "threshold", "b_gate", "b_mag", "r_mag")
    return {name: torch.randn(shape) for name, shape in (shapes | dict.fromkeys(vectors, (D_SAE,))).items()}


def assert_same(sae: Any, state: dict[str, torch.Tensor], residual: torch.Tensor, encoder: Encoder) -> None:
    sae.load_state_dict(state | {"b_dec": torch.zeros(D_MODEL)})
    rows = encode(residual, encoder, torch.tensor([0, POSITIONS]), rows="all").rows
    assert rows is not None
    with torch.no_grad():
        torch.testing.assert_close(dense_of(rows, D_SAE), sae.encode(residual), rtol=1e-4, atol=1e-4)


def test_standard(weights: dict[str, torch.Tensor]) -> None:
    from sae_lens import StandardSAE, StandardSAEConfig  # pyright: ignore[reportMissingImports]

    sae = StandardSAE(StandardSAEConfig(d_in=D_MODEL, d_sae=D_SAE))
    state = {name: weights[name] for name in ("W_enc", "W_dec", "b_enc")}
    assert_same(sae, state, weights["residual"], Encoder(weights["W_enc"], weights["b_enc"], torch.zeros(D_SAE)))


def test_jumprelu(weights: dict[str, torch.Tensor]) -> None:
    from sae_lens import JumpReLUSAE, JumpReLUSAEConfig  # pyright: ignore[reportMissingImports]

    sae = JumpReLUSAE(JumpReLUSAEConfig(d_in=D_MODEL, d_sae=D_SAE))
    threshold = weights["threshold"].abs()
    state = {name: weights[name] for name in ("W_enc", "W_dec", "b_enc")} | {"threshold": threshold}
    assert_same(sae, state, weights["residual"], Encoder(weights["W_enc"], weights["b_enc"], threshold))


def test_topk(weights: dict[str, torch.Tensor]) -> None:
    from sae_lens import TopKSAE, TopKSAEConfig  # pyright: ignore[reportMissingImports]

    sae = TopKSAE(TopKSAEConfig(d_in=D_MODEL, d_sae=D_SAE, k=K))
    state = {name: weights[name] for name in ("W_enc", "W_dec", "b_enc")}
    assert_same(sae, state, weights["residual"], Encoder(weights["W_enc"], weights["b_enc"], torch.zeros(D_SAE), k=K))


def test_gated(weights: dict[str, torch.Tensor]) -> None:
    from sae_lens import GatedSAE, GatedSAEConfig  # pyright: ignore[reportMissingImports]

    sae = GatedSAE(GatedSAEConfig(d_in=D_MODEL, d_sae=D_SAE))
    state = {name: weights[name] for name in ("W_enc", "W_dec", "b_gate", "b_mag", "r_mag")}
    encoder = Encoder(
        weights["W_enc"],
        weights["b_gate"],
        torch.zeros(D_SAE),
        gate_scale=weights["r_mag"].exp(),
        gate_bias=weights["b_mag"],
    )
    assert_same(sae, state, weights["residual"], encoder)
