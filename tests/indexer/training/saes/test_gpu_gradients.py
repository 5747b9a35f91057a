"""The kernels between the products of an SAE's step against float64 and against the path of torch; without a GPU, they
are interpreted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

pytest.importorskip("triton")

from tegakari.indexer.training.saes import trainable
from tegakari.indexer.training.saes.gpu_adam import GpuAdam
from tegakari.indexer.training.saes.gpu_gradients import gpu_gradients
from tegakari.indexer.training.saes.gradients import PRODUCTS, REVIVAL_GRADIENT, Batch, Gradients, Silence, gradients
from tegakari.indexer.training.saes.trainable import TrainableSae
from tests.support.host_waits import HostWaits
from tests.support.launches import Launches

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LIMIT, PENALTY = 3, 0.3
D_MODEL, D_SAE = 6, 11


@pytest.fixture(autouse=True)
def _poison() -> Iterator[None]:
    """New tensors are full of NaN, so that an element that no kernel writes is noticed."""
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(mode=False)


class Case:
    """Weights and residuals with a mean that is far larger than their spread; feature 1 is silent."""

    def __init__(self, positions: int, d_model: int, d_sae: int, dtype: torch.dtype, k: int) -> None:
        generator = torch.Generator().manual_seed(positions)
        mean = 20 * torch.randn(d_model, generator=generator)
        directions = normalize(torch.randn(d_sae, d_model, generator=generator), dim=1)
        residual = torch.randn(positions, d_model, generator=generator) + mean
        self.residual, self.W_dec = residual.to(DEVICE, dtype), directions.to(DEVICE, dtype)
        self.scale = torch.tensor(0.37, dtype=torch.float64, device=DEVICE)
        self.W_enc = self.W_dec.T.contiguous()
        self.b_enc = (0.1 * torch.randn(d_sae, generator=generator)).to(DEVICE)
        self.b_enc[1] = -1e3
        self.b_dec = (0.37 * mean).to(DEVICE)
        self.silent = torch.arange(d_sae, dtype=torch.int32, device=DEVICE) % 5
        self.k = k

    def run(self, function: Callable[..., Gradients]) -> tuple[Gradients, Tensor]:
        """Gradients, and the steps of silence after the step."""
        silent = self.silent.clone()
        result = function(
            Batch(self.residual, self.scale),
            self.W_enc,
            self.W_dec,
            self.b_enc,
            self.b_dec,
            Silence(silent, LIMIT),
            penalty=None if self.k else torch.tensor(PENALTY, dtype=torch.float64, device=DEVICE),
            k=self.k,
        )
        return result, silent

    def exact(self) -> tuple[dict[str, Tensor], Tensor]:
        """Gradients of the documented loss by autograd in float64, and the steps of silence."""
        x = self.residual.double() * self.scale
        p = {name: getattr(self, name).double().requires_grad_() for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
        a = torch.relu((x - p["b_dec"]) @ p["W_enc"] + p["b_enc"])
        if self.k:
            largest = a.detach().flatten().sort(descending=True).values
            a = a * (a.detach() > largest[min(self.k * len(a), len(largest) - 1)])
        loss = (x - a @ p["W_dec"] - p["b_dec"]).square().sum(1) + (0 if self.k else PENALTY) * a.sum(1)
        loss.mean().backward()
        silent = torch.where((a > 0).any(0), 0, self.silent + 1)
        results = {name: value.grad for name, value in p.items() if value.grad is not None}
        results["b_enc"] -= REVIVAL_GRADIENT * (silent > LIMIT)
        return results | {"active": (a > 0).sum(0)}, silent


SHAPES = [(1, 24, 60), (37, 77, 130), (150, 70, 33), (2100, 5, 30), (20, 5, 1100)]
"""Positions, d_model, d_sae: no block is full; one position; more than an iteration of every loop."""


@pytest.mark.parametrize("k", [0, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_float64(shape: tuple[int, int, int], k: int):
    case = Case(*shape, torch.float32, k)
    (result, silent), (exact, exact_silent) = case.run(gpu_gradients), case.exact()
    assert torch.equal(silent, exact_silent.int())
    for name, value in exact.items():
        torch.testing.assert_close(getattr(result, name).double(), value.double(), rtol=1e-4, atol=2e-4, msg=name)


@pytest.mark.parametrize(("k", "tolerance"), [(0, 0.03), (4, 0.15)])
def test_rounded_products_give_the_gradients_of_the_torch_path(k: int, tolerance: float):
    """Triton's interpreter truncates to bfloat16, and torch rounds: a bit of 8; activations at a cut change sides."""
    case = Case(60, 77, 130, torch.bfloat16, k)
    (result, silent), (expected, expected_silent) = case.run(gpu_gradients), case.run(gradients)
    for one, other in zip(result, case.run(gpu_gradients)[0], strict=True):
        if one is not None and other is not None:
            assert torch.equal(one, other)  # sums have one order
    different = (result.active != expected.active).float().mean()
    assert different < 0.05
    assert (silent != expected_silent).float().mean() < 0.05
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        one, other = getattr(result, name), getattr(expected, name)
        assert one.dtype == torch.float32
        assert float((one - other).norm() / other.norm()) < tolerance, name


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """SAEs that are made from now on are trained by the kernels."""
    monkeypatch.setattr(trainable, "_has_kernels", lambda _device: True)


def sae_of(architecture: str, *, precision: str = "float32", target_l0: float = 0.0) -> TrainableSae:
    return TrainableSae(
        D_MODEL,
        D_SAE,
        architecture=architecture,  # type: ignore[arg-type]
        k=4,
        l1=0.2,
        target_l0=target_l0,
        silent_steps=5,
        seed=0,
        device=DEVICE,
        precision=precision,  # type: ignore[arg-type]
    )


def residuals(positions: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    spread = torch.randn(positions, D_MODEL, generator=generator)
    return (spread + 20 * torch.randn(D_MODEL, generator=generator)).to(DEVICE)


@pytest.mark.parametrize(
    ("architecture", "precision", "steps"),
    [("relu", "float32", 12), ("relu", "bfloat16", 3), ("batch_topk", "float32", 4)],
)
def test_training_with_kernels_is_training_without_and_resumes(
    architecture: str, precision: str, steps: int, monkeypatch: pytest.MonkeyPatch
):
    target = 3.0 if architecture == "relu" else 0.0
    monkeypatch.setattr(trainable, "_has_kernels", lambda _device: False)
    expected = sae_of(architecture, precision=precision, target_l0=target)
    monkeypatch.setattr(trainable, "_has_kernels", lambda _device: True)
    sae, resumed = (sae_of(architecture, precision=precision, target_l0=target) for _ in range(2))
    assert isinstance(sae._adam, GpuAdam)
    start, h = sae.W_enc.detach().clone(), residuals(90)
    expected.start_from(h)
    sae.start_from(h)
    for step in range(steps):
        trained = [expected, sae]
        if step == steps - 1:
            resumed.load_checkpoint_tensors({name: value.clone() for name, value in sae.checkpoint_tensors().items()})
            trained.append(resumed)
        for one in trained:
            one.step(h[step % 3 :: 3], learning_rate=1e-3, penalty=min(1.0, step / 2))
    tolerance = 1e-4 if precision == "float32" else 5e-2  # of the change of the weights
    for name, value in expected.named_parameters():
        difference = (sae.get_parameter(name) - value).norm() / (expected.W_enc - start).norm()
        assert float(difference.detach()) < tolerance, name
    for name in ("silent", "l1", "cut"):
        torch.testing.assert_close(sae.state_dict()[name], expected.state_dict()[name], rtol=1e-3, atol=1e-3)
    if precision == "float32":  # to bfloat16, Triton's interpreter truncates, and a GPU and torch round
        for name, value in sae.checkpoint_tensors().items():
            assert torch.equal(value, resumed.checkpoint_tensors()[name]), name


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    ("architecture", "target_l0", "most"), [("relu", 0.0, 12), ("relu", 6.0, 17), ("batch_topk", 0.0, 21)]
)
def test_a_step_is_a_few_kernels(architecture: str, target_l0: float, most: int, monkeypatch: pytest.MonkeyPatch):
    """In float32: with bfloat16 it is as many on a GPU, but on a CPU products convert their operands."""
    sae, h, rows = sae_of(architecture, target_l0=target_l0), residuals(90), torch.arange(32, device=DEVICE)
    sae.start_from(h)
    with Launches(monkeypatch) as launches, HostWaits() as waits:
        sae.step(h.index_select(0, rows), learning_rate=1e-3)
    assert launches.counts.total() <= most, launches.counts
    assert (
        sum(count for name, count in launches.counts.items() if name.endswith("mm"))
        + launches.counts["_addmm_activation"]
        == PRODUCTS
    )
    assert not waits.counts
