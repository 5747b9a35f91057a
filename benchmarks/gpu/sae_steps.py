"""A step of SAE training on a GPU by piece: what its time is made of, and what its bytes would take.

Milliseconds per layer and step, relu, bfloat16 operands; ..._4096: with batches of 4,096 positions instead of 512.

    sae_step_ms              a whole step
    sae_products_ms          its five matrix products alone
    sae_gradients_ms         products and what is between them
    sae_adam_ms              Adam, norms of rows, rounded copies
    sae_issue_ms             time in which the host issues a step
    sae_step_compiled_ms     a whole step with `saes.compile` (GPU alone: on a CPU the compiler takes minutes)
    sae_bytes_ms             time of a copy of as many bytes as a step reads and writes at least
    sae_adam_bandwidth       bytes of Adam per second, over those of a copy
    sae_copy_bytes_per_s     bytes that a copy reads and writes per second
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.case import Shape
from benchmarks.gpu.clock import seconds, timing
from benchmarks.gpu.random_model import SMOKE, device_of
from benchmarks.gpu.train import LAYERS, new_sae, random_residuals
from tegakari.indexer.training.saes.gradients import Batch, Silence
from tegakari.indexer.training.saes.precision import product
from tegakari.indexer.training.saes.trainable import make_adam, make_gradients

DTYPE = torch.bfloat16
LEARNING_RATE = 1e-4


class StepBytes(NamedTuple):
    """Bytes that a step reads and writes at least, if nothing stays in a cache from one kernel to the next."""

    products: int
    between: int
    adam: int


def step_bytes(positions: int, *, d_model: int, d_sae: int) -> StepBytes:
    """Bytes of a step with operands of 2 bytes and everything else of 4."""
    weights, inputs, activations = d_model * d_sae, positions * d_model, positions * d_sae
    forward = 2 * (weights + inputs + activations)
    return StepBytes(
        products=3 * forward + 2 * inputs + 2 * (2 * (inputs + activations) + 4 * weights),
        # collection 2 + 2, input 2 + 2, error 4 + 2 + 2; feature 2 + 2 + 2; decoder bias
        between=16 * inputs + 6 * activations + 2 * weights,
        adam=2 * weights * (4 * 4 + 3 * 4 + 2),
    )


def measure(smoke: bool = False) -> dict[str, float]:
    """Figures of the pieces of a step. `smoke`: tiny shapes on a CPU."""
    shape, device = SMOKE if smoke else Shape(), device_of(smoke)
    copy = _copy_rate(device)
    figures = {"sae_copy_bytes_per_s": copy}
    for name, batch in (("", 16 if smoke else 512), ("_4096", 32 if smoke else 4096)):
        total = step_bytes(batch, d_model=shape.d_model, d_sae=shape.d_sae)
        pieces = _pieces(shape, device, batch)
        figures |= {f"sae_{piece}{name}": value for piece, value in pieces.items()}
        figures[f"sae_bytes_ms{name}"] = 1e3 * sum(total) / copy
        figures[f"sae_adam_bandwidth{name}"] = 1e3 * total.adam / pieces["adam_ms"] / copy
    return figures


def _pieces(shape: Shape, device: torch.device, batch: int) -> dict[str, float]:
    """Milliseconds of the pieces, each issued for several layers in turn, so that none finds its weights in a cache."""
    residual = random_residuals(shape, batch, device)
    layers = [_Layer(shape, device, layer, residual) for layer in range(LAYERS)]
    rows = torch.arange(batch, device=device)
    whole = timing(lambda: [layer.step(residual, rows) for layer in layers], device)
    times = {
        "step": whole.device,
        "issue": whole.host,
        "products": timing(lambda: [layer.products() for layer in layers], device).device,
        "gradients": timing(lambda: [layer.gradients() for layer in layers], device).device,
        "adam": timing(lambda: [layer.adam.step(LEARNING_RATE) for layer in layers], device).device,
    }
    if device.type == "cuda":
        compiled = [_Layer(shape, device, layer, residual, compiled=True) for layer in range(LAYERS)]
        times["step_compiled"] = timing(lambda: [layer.step(residual, rows) for layer in compiled], device).device
    return {f"{name}_ms": milliseconds / LAYERS for name, milliseconds in times.items()}


class _Layer:
    """An SAE, and its parts by themselves."""

    def __init__(
        self, shape: Shape, device: torch.device, seed: int, residual: Tensor, *, compiled: bool = False
    ) -> None:
        self.sae = new_sae(shape, "relu", device, "bfloat16", seed, compiled=compiled)
        self.sae.start_from(residual)
        self._gradients = make_gradients(device, compiled=compiled)
        self._silence = Silence(torch.zeros(shape.d_sae, dtype=torch.int32, device=device), 1000)
        self._batch = Batch(residual, self.sae.scale)
        parameters = {name: nn.Parameter(value.detach().clone()) for name, value in self.sae.named_parameters()}
        self._b_dec = parameters["b_dec"].detach()
        self._operands = {name: parameters[name].detach().to(DTYPE) for name in ("W_enc", "W_dec", "b_enc")}
        self.adam = make_adam(parameters, self._operands)
        gradients = self.gradients()
        for name, parameter in parameters.items():
            parameter.grad = getattr(gradients, name)
        self._input = residual.to(DTYPE)
        self._activations = torch.randn(len(residual), shape.d_sae, device=device).to(DTYPE)

    def step(self, residual: Tensor, rows: Tensor) -> None:
        self.sae.step(residual.index_select(0, rows), learning_rate=LEARNING_RATE)

    @torch.no_grad()
    def gradients(self) -> object:
        return self._gradients(
            self._batch, **self._operands, b_dec=self._b_dec, silence=self._silence, penalty=self.sae.l1, k=0
        )

    @torch.no_grad()
    def products(self) -> None:
        """With the operands, dtypes and orders of `gradients`."""
        W_enc, W_dec, b_enc = (self._operands[name] for name in ("W_enc", "W_dec", "b_enc"))
        torch.addmm(b_enc, self._input, W_enc)
        product(self._activations, W_dec)
        torch.mm(self._input, W_dec.T)
        product(self._input.T, self._activations)
        product(self._activations.T, self._input)


def _copy_rate(device: torch.device) -> float:
    """Bytes per second that a copy reads and writes."""
    source = torch.zeros(2**28 if device.type == "cuda" else 2**22, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source), device)
