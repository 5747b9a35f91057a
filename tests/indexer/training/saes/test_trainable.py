"""One SAE in training: gradients of the loss, recovery of planted directions, sparsity, revival of silent features."""

from __future__ import annotations

import math

import msgspec
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tegakari.indexer.training.saes.gradients import activations
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


def trainable(
    d_model: int,
    d_sae: int,
    architecture: str = "relu",
    *,
    k: int = 4,
    l1: float = 0.0,
    target_l0: float = 0.0,
    silent_steps: int = 50,
):
    assert architecture in ("relu", "batch_topk")
    return TrainableSae(
        d_model,
        d_sae,
        architecture=architecture,
        k=k,
        l1=l1,
        target_l0=target_l0,
        silent_steps=silent_steps,
        seed=0,
        device=CPU,
    )


def loss_of(sae: TrainableSae, architecture: str, x: Tensor, l1: float, k: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The documented loss, for autograd, in float64."""
    p = {name: value.detach().double().requires_grad_() for name, value in sae.named_parameters()}
    a = torch.relu((x - p["b_dec"]) @ p["W_enc"] + p["b_enc"])
    if architecture == "batch_topk":
        smallest = a.detach().flatten().sort(descending=True).values[k * len(x) - 1]
        a = a * (a.detach() >= smallest)
    loss = (x - (a @ p["W_dec"] + p["b_dec"])).square().sum(1).mean()
    if architecture == "relu":
        loss = loss + l1 * a.sum(1).mean()
    return loss, p


@torch.no_grad()
def activations_of(sae: TrainableSae, x: Tensor, architecture: str, k: int) -> Tensor:
    return activations(x - sae.b_dec, sae.W_enc, sae.b_enc, k=k if architecture == "batch_topk" else 0)[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_are_the_gradients_of_the_loss(architecture: str):
    h, _ = planted_data(600, 24, 40)
    sae = trainable(24, 60, architecture, k=3, l1=0.25)
    sae.start_from(h)
    for step in range(20):  # away from the initial state, where many gradients are 0
        sae.step(h[step * 20 : step * 20 + 100], learning_rate=3e-3)
    x = (h[:100].double() * sae.scale).float()
    active = sae._set_gradients(h[:100], 0.5)
    loss, p = loss_of(sae, architecture, x.double(), 0.5 * 0.25, k=3)
    assert torch.equal(active, (activations_of(sae, x, architecture, 3) > 0).sum(0).float())
    loss.backward()
    gradients = {name: value.grad for name, value in p.items()}
    for name, parameter in sae.named_parameters():
        expected = gradients[name]
        assert expected is not None
        assert parameter.grad is not None
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(parameter.grad.double(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_planted_directions_are_recovered(architecture: str):
    h, directions = planted_data(20_000, 32, 48)
    sae = trainable(32, 96, architecture, l1=0.57)
    sae.start_from(h)
    steps = 1400
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        rows = torch.randint(0, len(h), (512,), generator=generator)
        sae.step(h[rows], penalty=min(1, step / 50), learning_rate=3e-3 * min(1, (steps - step) / (0.3 * steps)))
    finished = sae.finished(0)
    cosine = (directions @ normalize(finished.decoder_directions(), dim=1).T).max(1).values
    assert (cosine > 0.9).float().mean() > 0.9
    encoder = finished.encoder(torch.float32)
    pre = h @ encoder.weight + encoder.bias
    a = pre * (pre > encoder.threshold)
    explained = 1 - (h - finished.decode(a, h)).square().sum() / (h - h.mean(0)).square().sum()
    assert explained > 0.9
    assert 2 < (a > 0).float().sum(1).mean() < 10


def test_batch_topk_has_k_active_features_per_position_with_and_without_its_batch():
    h, _ = planted_data(4_000, 32, 48)
    sae = trainable(32, 96, "batch_topk", k=5)
    sae.start_from(h)
    for step in range(300):
        rows = torch.arange(step * 40, step * 40 + 256) % len(h)
        sae.step(h[rows], learning_rate=3e-3 * (1 - step / 300))
    a = activations_of(sae, (h[:256].double() * sae.scale).float(), "batch_topk", 5)
    assert int((a > 0).sum()) == 5 * 256
    finished = sae.finished(0)
    assert finished.activation == "batch_topk"
    encoder = finished.encoder(torch.float32)
    active = (h @ encoder.weight + encoder.bias) > encoder.threshold
    assert active.float().sum(1).mean() == pytest.approx(5, abs=0.5)


def trained_relu(
    h: Tensor, steps: int, *, l1: float, target_l0: float = 0.0, learning_rate: float = 3e-3
) -> TrainableSae:
    """ReLU SAE of 2 * d_model features after steps of 128 positions, with the schedule's shape."""
    d_model = h.shape[1]
    sae = trainable(d_model, 2 * d_model, l1=l1, target_l0=target_l0, silent_steps=steps // 8)
    sae.start_from(h)
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        rows = torch.randint(0, len(h), (128,), generator=generator)
        decay = min(1, (steps - step) / (0.2 * steps))
        sae.step(h[rows], penalty=min(1, step / (0.05 * steps)), learning_rate=learning_rate * decay)
    return sae


def l0_of(sae: TrainableSae, h: Tensor) -> float:
    encoder = sae.finished(0).encoder(torch.float32)
    return (h @ encoder.weight + encoder.bias > 0).float().sum(1).mean().item()


@pytest.mark.parametrize(("target_l0", "l1"), [(4, 0.02), (4, 10), (12, 1.44)])
def test_the_coefficient_is_adapted_to_the_target_from_below_and_above(target_l0: float, l1: float):
    h, _ = planted_data(20_000, 32, 48)
    h += 2 * torch.randn(h.shape, generator=torch.Generator().manual_seed(2))
    sae = trained_relu(h, 900, l1=l1, target_l0=target_l0)
    assert l0_of(sae, h) == pytest.approx(target_l0, rel=0.15)
    assert sae.l1_coefficient != l1


def test_the_coefficient_is_fixed_without_a_target_and_during_the_rise_of_the_penalty():
    h, _ = planted_data(1_000, 16, 20)
    fixed = trainable(16, 32, l1=0.4)
    rising = trainable(16, 32, l1=0.4, target_l0=2)
    for sae in (fixed, rising):
        sae.start_from(h)
    fixed.step(h[:200], learning_rate=1e-3)
    rising.step(h[:200], penalty=0.9, learning_rate=1e-3)
    assert fixed.l1_coefficient == rising.l1_coefficient == 0.4
    rising.step(h[:200], learning_rate=1e-3)
    assert rising.l1_coefficient == pytest.approx(0.4 * math.exp(5e-3))  # the largest change: far above the target
    assert trainable(16, 32, "batch_topk").l1_coefficient is None


def test_a_coefficient_has_the_same_effect_in_two_widths():
    """The share of active features is alike at equal l1, but not at equal l1 / sqrt(d_model)."""

    def residual(d_model: int) -> Tensor:
        """Sums of d_model / 16 of 2 * d_model directions, with noise of the same size in every coordinate."""
        generator = torch.Generator().manual_seed(0)
        directions = normalize(torch.randn(2 * d_model, d_model, generator=generator), dim=1)
        fires = torch.rand(12_000, 2 * d_model, generator=generator) < 1 / 32
        amounts = torch.empty(fires.shape).exponential_(generator=generator)
        return (fires * amounts) @ directions + 0.1 * torch.randn(12_000, d_model, generator=generator)

    def share(h: Tensor, l1: float) -> float:
        # Adam turns a row of the decoder by about sqrt(d_model) learning rates per step.
        sae = trained_relu(h, 600, learning_rate=0.065 / math.sqrt(h.shape[1]), l1=l1)
        return l0_of(sae, h) / (2 * h.shape[1])

    narrow, wide = residual(48), residual(144)
    wide_share = share(wide, 1.44)
    assert 1 / 1.5 < share(narrow, 1.44) / wide_share < 1.5
    assert share(narrow, 1.44 * math.sqrt(48 / 144)) / wide_share > 1.8


def test_the_input_has_a_mean_norm_of_sqrt_d_model():
    h, _ = planted_data(1_000, 16, 20)
    sae = trainable(16, 32)
    sae.start_from(h)
    assert (h.double() * sae.scale).norm(dim=1).mean().item() == pytest.approx(4)
    assert sae.finished(0).scale == pytest.approx(float(sae.scale))
    torch.testing.assert_close(sae.b_dec.detach(), (h.double() * sae.scale).mean(0).float())
    norms = h.double().norm(dim=1)
    assert msgspec.structs.astuple(sae.residual_norms()) == pytest.approx(
        (norms.mean().item(), norms.median().item(), norms.max().item())
    )


def test_decoder_rows_keep_norm_1():
    h, _ = planted_data(1_000, 16, 20)
    sae = trainable(16, 32, l1=0.4)
    sae.start_from(h)
    for step in range(30):
        sae.step(h[step * 10 : step * 10 + 200], learning_rate=1e-2)
    torch.testing.assert_close(sae.W_dec.detach().norm(dim=1), torch.ones(32))


def test_silent_features_are_revived():
    h, _ = planted_data(2_000, 16, 20)
    sae = trainable(16, 32, silent_steps=10)
    sae.start_from(h)
    with torch.no_grad():
        sae.b_enc[:5] = -30.0  # no input of this test makes these features active
    biases, silent = [], []
    for _ in range(400):
        sae.step(h[:500], learning_rate=0.1)
        biases.append(sae.b_enc.detach()[:5].clone())
        silent.append(sae.silent[:5].clone())
    assert (torch.stack(biases[:10]) == -30).all()
    assert (biases[12] > -30).all()
    assert (torch.stack(silent[:100]) > 0).all()
    assert (torch.stack(silent) == 0).any(0).all()
