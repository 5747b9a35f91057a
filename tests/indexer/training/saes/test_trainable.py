"""One SAE in training: gradients of the loss, recovery of planted directions, revival of silent features."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tegakari.indexer.training.saes.trainable import TrainableSae

CPU = torch.device("cpu")
ARCHITECTURES = ("relu", "batch_topk")


def planted_data(positions: int, d_model: int, true_features: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Sparse positive sums of unit directions, around a mean that is far from zero; [P, d], [features, d]."""
    generator = torch.Generator().manual_seed(seed)
    directions = normalize(torch.randn(true_features, d_model, generator=generator), dim=1)
    active = torch.rand(positions, true_features, generator=generator) < 3 / true_features
    amounts = active * (1 + torch.rand(positions, true_features, generator=generator))
    return amounts @ directions * 5 + torch.randn(d_model, generator=generator) * 3, directions


def trainable(d_model: int, d_sae: int, architecture: str = "relu", *, k: int = 4, silent_steps: int = 50):
    assert architecture in ("relu", "batch_topk")
    return TrainableSae(d_model, d_sae, architecture=architecture, k=k, silent_steps=silent_steps, seed=0, device=CPU)


def loss_of(sae: TrainableSae, architecture: str, x: Tensor, l1: float, k: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The documented loss, for autograd, in float64."""
    p = {name: value.detach().double().requires_grad_() for name, value in sae.named_parameters()}
    a = torch.relu((x - p["b_dec"]) @ p["W_enc"] + p["b_enc"])
    if architecture == "batch_topk":
        smallest = a.detach().flatten().sort(descending=True).values[k * len(x) - 1]
        a = a * (a.detach() >= smallest)
    loss = (x - (a @ p["W_dec"] + p["b_dec"])).square().sum(1).mean()
    if architecture == "relu":
        loss = loss + l1 * math.sqrt(x.shape[1]) * a.sum(1).mean()
    return loss, p


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_are_the_gradients_of_the_loss(architecture: str):
    h, _ = planted_data(600, 24, 40)
    sae = trainable(24, 60, architecture, k=3)
    sae.start_from(h)
    for step in range(20):  # away from the initial state, where many gradients are 0
        sae.step(h[step * 20 : step * 20 + 100], l1=0.05, learning_rate=3e-3)
    x = (h[:100].double() * sae.scale).float()
    sae._set_gradients(x, 0.05)
    loss, p = loss_of(sae, architecture, x.double(), 0.05, k=3)
    loss.backward()
    gradients = {name: value.grad for name, value in p.items()}
    W_dec, full = p["W_dec"].detach(), gradients["W_dec"]
    assert full is not None
    gradients["W_dec"] = full - (full * W_dec).sum(1, keepdim=True) * W_dec  # without the component along the row
    for name, parameter in sae.named_parameters():
        expected = gradients[name]
        assert expected is not None
        assert parameter.grad is not None
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(parameter.grad.double(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_planted_directions_are_recovered(architecture: str):
    h, directions = planted_data(20_000, 32, 48)
    sae = trainable(32, 96, architecture)
    sae.start_from(h)
    steps = 1400
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        rows = torch.randint(0, len(h), (512,), generator=generator)
        sae.step(h[rows], l1=0.1 * min(1, step / 50), learning_rate=3e-3 * min(1, (steps - step) / (0.3 * steps)))
    finished = sae.finished(0)
    cosine = (directions @ normalize(finished.decoder_directions(), dim=1).T).max(1).values
    assert (cosine > 0.9).float().mean() > 0.9
    encoder = finished.encoder(torch.float32)
    pre = h @ encoder.weight + encoder.bias
    a = pre * (pre > encoder.threshold)
    explained = 1 - (h - finished.decode(a)).square().sum() / (h - h.mean(0)).square().sum()
    assert explained > 0.9
    assert 2 < (a > 0).float().sum(1).mean() < 10


def test_batch_topk_has_k_active_features_per_position_with_and_without_its_batch():
    h, _ = planted_data(4_000, 32, 48)
    sae = trainable(32, 96, "batch_topk", k=5)
    sae.start_from(h)
    for step in range(300):
        rows = torch.arange(step * 40, step * 40 + 256) % len(h)
        sae.step(h[rows], l1=0, learning_rate=3e-3 * (1 - step / 300))
    with torch.no_grad():
        a = sae._activations((h[:256].double() * sae.scale).float())
    assert int((a > 0).sum()) == 5 * 256
    finished = sae.finished(0)
    assert finished.activation == "batch_topk"
    encoder = finished.encoder(torch.float32)
    active = (h @ encoder.weight + encoder.bias) > encoder.threshold
    assert active.float().sum(1).mean() == pytest.approx(5, abs=0.5)


def test_the_input_has_a_mean_norm_of_sqrt_d_model():
    h, _ = planted_data(1_000, 16, 20)
    sae = trainable(16, 32)
    sae.start_from(h)
    assert (h.double() * sae.scale).norm(dim=1).mean().item() == pytest.approx(4)
    assert sae.finished(0).scale == pytest.approx(float(sae.scale))
    torch.testing.assert_close(sae.b_dec.detach(), (h.double() * sae.scale).mean(0).float())


def test_decoder_rows_keep_norm_1():
    h, _ = planted_data(1_000, 16, 20)
    sae = trainable(16, 32)
    sae.start_from(h)
    for step in range(30):
        sae.step(h[step * 10 : step * 10 + 200], l1=0.1, learning_rate=1e-2)
    torch.testing.assert_close(sae.W_dec.detach().norm(dim=1), torch.ones(32))


def test_silent_features_are_revived():
    h, _ = planted_data(2_000, 16, 20)
    sae = trainable(16, 32, silent_steps=10)
    sae.start_from(h)
    with torch.no_grad():
        sae.b_enc[:5] = -30.0  # no input of this test makes these features active
    biases, silent = [], []
    for _ in range(400):
        sae.step(h[:500], l1=0.0, learning_rate=0.1)
        biases.append(sae.b_enc.detach()[:5].clone())
        silent.append(sae.silent[:5].clone())
    assert (torch.stack(biases[:10]) == -30).all()
    assert (biases[12] > -30).all()
    assert (torch.stack(silent[:100]) > 0).all()
    assert (torch.stack(silent) == 0).any(0).all()
