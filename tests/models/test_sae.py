"""The encoder of an SAE: input scale, rounding to bfloat16, thresholds, and the decoder of norm 1."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tegakari.models.sae_formats import load_sae, save_sae
from tests.support.sae_activations import activations_of, assert_encodes
from tests.support.sae_layouts import D_MODEL, D_SAE, LAYOUTS, residuals, weights_of

KINDS = ("saelens standard", "saelens jumprelu", "saelens topk", "saelens gated", "dictionary_learning BatchTopKSAE")
"""One layout of each activation."""


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("b_dec_to_input", [True, False])
def test_the_input_scale_is_folded(name: str, b_dec_to_input: bool, tmp_path: Path):
    """An SAE with scale s is the unscaled SAE on s*h, its reconstruction divided by s; also after saving."""
    LAYOUTS[name].write(tmp_path)
    plain = replace(load_sae(tmp_path), apply_b_dec_to_input=b_dec_to_input)
    scaled, h = replace(plain, scale=0.37), residuals()
    a = activations_of(plain, 0.37 * h)
    expected = a.numpy(), plain.decode(a, torch.from_numpy(h)).numpy() / 0.37
    assert_encodes(scaled, h, expected)
    save_sae(tmp_path / "saved", scaled)
    assert_encodes(load_sae(tmp_path / "saved"), h, expected)
    unit = torch.zeros(1, D_SAE)
    unit[0, 4] = 1
    anything = torch.zeros(1, D_MODEL)
    moved = scaled.decode(unit, anything) - scaled.decode(torch.zeros(1, D_SAE), anything)
    torch.testing.assert_close(scaled.decoder_directions()[4], moved[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_bfloat16_weights_lose_no_digits_to_a_large_mean(name: str, tmp_path: Path):
    """Residuals are mostly their mean, which b_dec removes; the rounding of the weights must not leave a part of it."""
    LAYOUTS[name].write(tmp_path)
    sae = load_sae(tmp_path)
    rng = np.random.default_rng(0)
    mean = torch.from_numpy(rng.normal(size=D_MODEL) * 200).bfloat16()
    h = (mean.float() + torch.from_numpy(residuals())).bfloat16().float()
    sae = replace(sae, b_dec=mean.float(), apply_b_dec_to_input=True)
    rounded = replace(sae, W_enc=sae.W_enc.bfloat16().float(), b_dec=torch.zeros(D_MODEL))
    expected = activations_of(rounded, (h - mean.float()).numpy())
    torch.testing.assert_close(activations_of(sae, h.numpy(), torch.bfloat16), expected, rtol=1e-3, atol=2e-3)


def test_thresholds_are_float32_in_a_bfloat16_encoder(tmp_path: Path):
    LAYOUTS["saelens jumprelu"].write(tmp_path)
    sae = load_sae(tmp_path)
    encoder = sae.encoder(torch.bfloat16)
    assert (encoder.weight.dtype, encoder.threshold.dtype, encoder.bias.dtype) == (
        torch.bfloat16,
        torch.float32,
        torch.float32,
    )
    assert torch.equal(encoder.threshold, torch.from_numpy(weights_of(2)["threshold"].astype(np.float32)))
    assert not torch.equal(encoder.threshold, encoder.threshold.bfloat16().float())


def test_negative_thresholds_give_no_negative_activations(tmp_path: Path):
    """JumpReLU is ReLU with a mask: a negative threshold has no effect."""
    LAYOUTS["gemma scope"].write(tmp_path)
    sae = load_sae(tmp_path)
    lowered = replace(sae, threshold=torch.full((D_SAE,), -1.0))
    relu = replace(sae, activation="relu", threshold=None)
    assert torch.equal(activations_of(lowered, residuals()), activations_of(relu, residuals()))


@pytest.mark.parametrize("name", ["saelens standard", "saelens jumprelu", "saelens gated"])
def test_a_decoder_of_norm_1_reconstructs_the_same(name: str, tmp_path: Path):
    LAYOUTS[name].write(tmp_path)
    sae, h = load_sae(tmp_path), residuals()
    unit = sae.with_unit_decoder()
    a, b = activations_of(sae, h), activations_of(unit, h)
    torch.testing.assert_close(unit.W_dec.norm(dim=1), torch.ones(D_SAE))
    torch.testing.assert_close(b, a * sae.W_dec.norm(dim=1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        unit.decode(b, torch.from_numpy(h)), sae.decode(a, torch.from_numpy(h)), rtol=1e-4, atol=1e-3
    )
    empty = replace(sae, W_dec=torch.zeros_like(sae.W_dec)).with_unit_decoder()
    assert torch.isfinite(activations_of(empty, h)).all()
    assert not empty.W_dec.any()
