"""What SAE training does on a GPU, as far as a CPU can tell: no waits, rounded products, Adam in one kernel."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tegakari.indexer.training.saes.gradients import Batch, Silence, gradients
from tegakari.indexer.training.saes.precision import product, resolve_precision
from tegakari.indexer.training.saes.torch_adam import TorchAdam
from tegakari.indexer.training.saes.trainable import TrainableSae
from tegakari.models.precision import float32_products
from tegakari.schemas.config import SaesConfig
from tegakari.schemas.errors import SaeError
from tests.support.host_waits import HostWaits

CPU = torch.device("cpu")
D_MODEL, D_SAE = 24, 60


def residuals(positions: int = 256) -> torch.Tensor:
    """Residuals with a mean that is far larger than their spread, as those of a decoder."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(positions, D_MODEL, generator=generator) + 20 * torch.randn(D_MODEL, generator=generator)


def sae_of(architecture: str, *, precision: str = "float32", target_l0: float = 0.0) -> TrainableSae:
    sae = TrainableSae(
        D_MODEL,
        D_SAE,
        architecture=architecture,  # type: ignore[arg-type]
        k=4,
        l1=0.2,
        target_l0=target_l0,
        silent_steps=5,
        seed=0,
        device=CPU,
        precision=precision,  # type: ignore[arg-type]
    )
    sae.start_from(residuals())
    return sae


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("architecture", "target_l0"), [("relu", 0.0), ("relu", 6.0), ("batch_topk", 0.0)])
def test_a_step_does_not_wait(architecture: str, target_l0: float, precision: str):
    sae, h, rows = sae_of(architecture, precision=precision, target_l0=target_l0), residuals(), torch.arange(128)
    with HostWaits() as waits:
        for _ in range(3):
            sae.step(h.index_select(0, rows), learning_rate=1e-3)
    assert not waits.counts


def test_waits_are_noticed():
    values = torch.arange(4)
    with HostWaits() as waits:
        values[values > 1].sum().item()
        values.to("cpu")
        values.cpu()
        values.numpy()
        values.repeat_interleave(values)
        if values.sum() > 0:
            values.argmax()
    names = {"index", "_local_scalar_dense", "to", "cpu", "numpy", "repeat_interleave"}
    assert set(waits.counts) in (names, names | {"is_nonzero"}), waits.counts


@pytest.mark.parametrize(("architecture", "tolerance"), [("relu", 0.03), ("batch_topk", 0.2)])
def test_bfloat16_products_give_the_gradients_of_float32_within_their_rounding(architecture: str, tolerance: float):
    """A common mean 20 times the spread does not enter the error: the input is centred before it is rounded.

    BatchTopK has the larger error: activations near its cut are on its other side.
    """
    sae = sae_of(architecture)
    for _ in range(20):
        sae.step(residuals(), learning_rate=3e-3)
    options = {"penalty": sae.l1 if architecture == "relu" else None, "k": 4}
    with torch.no_grad():
        exact, rounded = (
            gradients(
                Batch(residuals(), sae.scale),
                sae.W_enc.to(dtype),
                sae.W_dec.to(dtype),
                sae.b_enc,
                sae.b_dec,
                Silence(sae.silent.clone(), 5),
                **options,
            )
            for dtype in (torch.float32, torch.bfloat16)
        )
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        one, other = getattr(exact, name), getattr(rounded, name)
        assert other.dtype == torch.float32
        assert float((one - other).norm() / one.norm()) < tolerance, name


def test_bfloat16_trains_as_well_as_float32():
    losses = {}
    for precision in ("float32", "bfloat16"):
        sae = sae_of("relu", precision=precision)
        for step in range(300):
            sae.step(residuals(), learning_rate=3e-3 * (1 - step / 300))
        assert sae.W_enc.dtype == sae.W_dec.dtype == torch.float32
        finished, h = sae.finished(0), residuals()
        encoder = finished.encoder(torch.float32)
        h_hat = finished.decode((h @ encoder.weight + encoder.bias).relu(), h)
        losses[precision] = float((h - h_hat).square().sum() / (h - h.mean(0)).square().sum())
    assert losses["float32"] < 0.8
    assert losses["bfloat16"] < 1.02 * losses["float32"]


@pytest.mark.parametrize("architecture", ["relu", "batch_topk"])
def test_gradients_compile_as_one_graph(architecture: str):
    """Traced as by `saes.compile`, without generating code, which takes minutes on a CPU."""
    sae = sae_of(architecture)
    traced = torch.compile(gradients, backend="eager", fullgraph=True)
    options = {"penalty": sae.l1 if architecture == "relu" else None, "k": 4}
    with torch.no_grad():
        for positions in (128, 127):
            arguments = Batch(residuals(positions), sae.scale), sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec
            silences = Silence(sae.silent.clone(), 5), Silence(sae.silent.clone(), 5)
            results = traced(*arguments, silences[0], **options), gradients(*arguments, silences[1], **options)
            assert torch.equal(silences[0].steps, silences[1].steps)
            for one, other in zip(*results, strict=True):
                if other is not None:
                    torch.testing.assert_close(one, other)


def test_products_are_summed_in_float32():
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(8, 4096, generator=generator).bfloat16() for _ in range(2))
    expected = left.double() @ right.double().T
    torch.testing.assert_close(product(left, right.T).double(), expected, atol=1e-3, rtol=1e-4)


def test_the_kernel_of_adam_is_adam():
    """The Triton kernel, without a GPU interpreted, against torch's Adam with the projection and norms around it."""
    pytest.importorskip("triton")
    from tegakari.indexer.training.saes.gpu_adam import GpuAdam

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def parameters() -> dict[str, nn.Parameter]:
        generator = torch.Generator().manual_seed(0)
        shapes = {"W_enc": (301, 5), "W_dec": (5, 301), "b_enc": (5,), "b_dec": (301,)}
        values = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        values["W_dec"] /= values["W_dec"].norm(dim=1, keepdim=True)
        return {name: nn.Parameter(value.to(device)) for name, value in values.items()}

    both = parameters(), parameters()
    operands = [{name: group[name].detach().bfloat16() for name in ("W_enc", "W_dec", "b_enc")} for group in both]
    torch_adam, gpu_adam = TorchAdam(both[0], operands[0]), GpuAdam(both[1], operands[1])
    generator = torch.Generator().manual_seed(1)
    for step in range(4):
        for name in both[0]:
            gradient = torch.randn(both[0][name].shape, generator=generator).to(device)
            both[0][name].grad, both[1][name].grad = gradient, gradient.clone()
        if step == 2:  # the state is that of the other implementation
            gpu_adam = GpuAdam(both[1], operands[1])
            gpu_adam.load({name: value.clone() for name, value in torch_adam.tensors().items()})
        torch_adam.step(1e-2)
        gpu_adam.step(1e-2)
    for name, parameter in both[0].items():
        torch.testing.assert_close(both[1][name], parameter, atol=1e-6, rtol=1e-5)
    for name, operand in operands[0].items():
        torch.testing.assert_close(operands[1][name], both[1][name].detach().bfloat16())
        torch.testing.assert_close(operands[1][name], operand, atol=1e-2, rtol=1e-2)
    assert set(gpu_adam.tensors()) == set(torch_adam.tensors())
    for name, value in torch_adam.tensors().items():
        torch.testing.assert_close(gpu_adam.tensors()[name], value, atol=1e-6, rtol=1e-5)


def test_precision_follows_the_device():
    assert resolve_precision(SaesConfig(), CPU) == "float32"
    assert resolve_precision(SaesConfig(precision="bfloat16"), CPU) == "bfloat16"
    with pytest.raises(SaeError, match="has no TF32") as caught:
        resolve_precision(SaesConfig(precision="tf32"), CPU)
    assert caught.value.field == "saes.precision"
    former = torch.get_float32_matmul_precision()
    with float32_products(tf32=True):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == former
