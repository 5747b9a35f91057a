"""One SAE in training: parameters, loss and gradients, thresholds, and the revival of silent features."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor, nn

from tegakari.indexer.training.saes.adam import Adam
from tegakari.indexer.training.saes.gradients import Batch, Gradients, Silence, gradients
from tegakari.indexer.training.saes.precision import operand_dtype
from tegakari.indexer.training.saes.torch_adam import TorchAdam
from tegakari.models.outliers import norm_limit, norms_of, ordinary_positions
from tegakari.models.sae import Sae
from tegakari.models.sae_start import start_directions
from tegakari.schemas.saes import Precision, ResidualNorms

THRESHOLD_DECAY = 0.99
"""Decay of the running mean of BatchTopK's cuts."""

ADAPTATION = 5.0
"""Largest change of the L1 coefficient's logarithm per step, in units of the learning rate."""


class TrainableSae(nn.Module):
    """An SAE on residuals scaled to a mean norm of sqrt(d_model), with decoder rows of norm 1.

    `relu`: the loss of a position x is `||x - x_hat||^2 + l1 * sum_f a_f` (Conerly et al. 2024). Coordinates of x have
    a mean square of about 1 in every width, and so l1 has much the same effect in every width. With a target, each step
    at the full penalty adds `ADAPTATION * learning_rate * log(L0 / target)` to log l1, with that logarithm held between
    -1 and 1.
    `batch_topk`: only the k * batch largest activations of a batch are nonzero; no penalty (Bussmann et al. 2024).

    Without rows of norm 1, long rows with small activations would evade the penalty. After each step the rows are
    normalised again, and their gradient has no component along them (Bricken et al. 2023).
    """

    def __init__(
        self,
        d_model: int,
        d_sae: int,
        *,
        architecture: Literal["relu", "batch_topk"],
        k: int = 0,
        l1: float = 0.0,
        target_l0: float = 0.0,
        silent_steps: int,
        seed: int,
        device: torch.device,
        precision: Precision = "float32",
        compiled: bool = False,
    ) -> None:
        """Initialise with random directions, the encoder as the transpose of the decoder.

        Args:
            d_model: width of the residual.
            d_sae: features.
            architecture: how activations become sparse.
            k: mean number of active features per position (batch_topk).
            l1: coefficient of the penalty (relu); with a target, its first value.
            target_l0: mean number of active features per position that the coefficient is adapted to; 0: l1 is fixed.
            silent_steps: steps without an activation after which a feature is revived.
            seed: seed of the directions, from `start_seed`.
            device: device of all tensors.
            precision: of matrix products; see `saes.precision`.
            compiled: compute gradients with torch.compile.
        """
        super().__init__()
        directions = torch.from_numpy(start_directions(seed, d_sae, d_model)).to(device)
        self.W_dec = nn.Parameter(directions)
        self.W_enc = nn.Parameter(directions.T.clone(memory_format=torch.contiguous_format))
        self.b_enc = nn.Parameter(torch.zeros(d_sae, device=device))
        self.b_dec = nn.Parameter(torch.zeros(d_model, device=device))
        self.norms: Tensor
        self.scale: Tensor
        self.l1: Tensor
        self.cut: Tensor
        self.cut_weight: Tensor
        self.silent: Tensor
        self.max_norm: Tensor
        self.register_buffer("scale", torch.ones((), dtype=torch.float64, device=device))
        self.register_buffer("norms", torch.zeros(3, dtype=torch.float64, device=device))
        self.register_buffer("l1", torch.tensor(l1, dtype=torch.float64, device=device))
        self.register_buffer("cut", torch.zeros((), dtype=torch.float64, device=device))
        self.register_buffer("cut_weight", torch.zeros((), dtype=torch.float64, device=device))
        self.register_buffer("silent", torch.zeros(d_sae, dtype=torch.int32, device=device))
        self.register_buffer("max_norm", torch.full((), math.inf, dtype=torch.float64, device=device))
        self._architecture: Literal["relu", "batch_topk"] = architecture
        self._k = k
        self._target_l0 = target_l0
        self._silent_steps = silent_steps
        self._gradients = make_gradients(device, compiled=compiled)
        dtype = operand_dtype(precision)
        rounded = ("W_enc", "W_dec", "b_enc") if architecture == "relu" else ("W_enc", "W_dec")
        self._operands = {
            name: parameter.detach().to(dtype)
            for name, parameter in self.named_parameters()
            if name in rounded and dtype != parameter.dtype
        }
        self._adam = make_adam(dict(self.named_parameters()), self._operands)

    @torch.no_grad()
    def start_from(self, residual: Tensor) -> None:
        """Set the limit of norms, the input scale and the initial decoder bias from residuals, [P, d_model].

        Scale, bias and the recorded norms are those of the positions that are not outliers.
        """
        self.max_norm.fill_(norm_limit(norms_of(residual)))
        residual = residual.index_select(0, self.ordinary_rows(residual))
        norms = residual.double().norm(dim=1)
        self.norms.copy_(torch.stack([norms.mean(), norms.median(), norms.max()]))
        self.scale.copy_(math.sqrt(residual.shape[1]) / norms.mean().clamp_min(1e-12))
        self.b_dec.copy_(residual.double().mean(0) * self.scale)

    def ordinary_rows(self, residual: Tensor) -> Tensor:
        """Rows of residuals [P, d_model] that are not norm outliers, int64; the SAE is trained on these."""
        ordinary = ordinary_positions(residual, float(self.max_norm))
        return torch.arange(len(residual), device=residual.device) if ordinary is None else ordinary.nonzero()[:, 0]

    @torch.no_grad()
    def step(self, residual: Tensor, *, learning_rate: float, penalty: float = 1.0) -> None:
        """One step of Adam on a batch of residuals, [B, d_model]; does not wait for a GPU.

        Args:
            residual: not scaled.
            learning_rate: of this step.
            penalty: share of the L1 coefficient that applies in this step (relu).
        """
        active = self._set_gradients(residual, penalty)
        if self._target_l0 and penalty == 1:
            excess = (active.sum() / (self._target_l0 * len(residual))).clamp_(1 / math.e, math.e)
            self.l1.mul_(excess.pow_(ADAPTATION * learning_rate))
        self._adam.step(learning_rate)
        for parameter in self.parameters():
            parameter.grad = None  # the gradients of all layers then use the same memory

    def _set_gradients(self, residual: Tensor, penalty: float) -> Tensor:
        """Set the gradients of the mean loss of residuals [B, d_model], and those that revive silent features.

        Returns:
            number of positions at which each feature is active, float32 [d_sae].
        """
        relu = self._architecture == "relu"
        batch = self._gradients(
            Batch(residual, self.scale),
            self._operands.get("W_enc", self.W_enc),
            self._operands.get("W_dec", self.W_dec),
            self._operands.get("b_enc", self.b_enc),
            self.b_dec,
            Silence(self.silent, self._silent_steps),
            penalty=(self.l1 if penalty == 1 else self.l1 * penalty) if relu else None,
            k=self._k,
        )
        if batch.cut is not None:
            # Inference has no batch to rank within: it uses the mean cut of the last steps (Bussmann et al. 2024).
            self.cut.mul_(THRESHOLD_DECAY).add_((1 - THRESHOLD_DECAY) * batch.cut)
            self.cut_weight.mul_(THRESHOLD_DECAY).add_(1 - THRESHOLD_DECAY)
        for name, parameter in self.named_parameters():
            parameter.grad = getattr(batch, name)
        return batch.active

    @property
    def l1_coefficient(self) -> float | None:
        """Coefficient of the penalty after the last step; None for batch_topk."""
        return self.l1.item() if self._architecture == "relu" else None

    def residual_norms(self) -> ResidualNorms:
        """Norms of the residuals that `start_from` received."""
        mean, median, maximum = self.norms.tolist()
        return ResidualNorms(mean=mean, median=median, max=maximum)

    def is_finite(self) -> bool:
        """Whether all parameters are finite; they are not after training has diverged."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.parameters())

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """All tensors that the next step depends on, by name: parameters, buffers, and `adam.<parameter>.<moment>`."""
        tensors: dict[str, Tensor] = dict(self.state_dict())
        return tensors | {f"adam.{name}": value for name, value in self._adam.tensors().items()}

    def load_checkpoint_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the tensors of `checkpoint_tensors`, from any device."""
        self.load_state_dict({name: value for name, value in tensors.items() if not name.startswith("adam.")})
        self._adam.load(
            {name.removeprefix("adam."): value for name, value in tensors.items() if name.startswith("adam.")}
        )
        self._write_operands()

    @torch.no_grad()
    def _write_operands(self) -> None:
        for name, operand in self._operands.items():
            operand.copy_(getattr(self, name))

    @torch.no_grad()
    def finished(self, layer: int) -> Sae:
        """The trained SAE, on the CPU."""
        threshold = None
        if self._architecture == "batch_topk":
            threshold = (self.cut / self.cut_weight).float().expand_as(self.b_enc).cpu()
        return Sae(
            W_enc=self.W_enc.detach().cpu(),
            W_dec=self.W_dec.detach().cpu(),
            b_enc=self.b_enc.detach().cpu(),
            b_dec=self.b_dec.detach().cpu(),
            activation=self._architecture,
            threshold=threshold,
            scale=float(self.scale),
            apply_b_dec_to_input=True,
            layer=layer,
            max_norm=float(self.max_norm),
        )


def make_gradients(device: torch.device, *, compiled: bool) -> Callable[..., Gradients]:
    """The implementation of `gradients` for a device; `compiled`: by torch.compile."""
    if compiled:
        return torch.compile(gradients)
    if _has_kernels(device):
        from tegakari.indexer.training.saes.gpu_gradients import gpu_gradients  # Triton is absent on most machines

        return gpu_gradients
    return gradients


def make_adam(parameters: Mapping[str, nn.Parameter], operands: Mapping[str, Tensor]) -> Adam:
    """The implementation for the parameters' device.

    Args:
        parameters: float32.
        operands: copies of some parameters in another dtype, which follow them.
    """
    if _has_kernels(next(iter(parameters.values())).device):
        from tegakari.indexer.training.saes.gpu_adam import GpuAdam

        return GpuAdam(parameters, operands)
    return TorchAdam(parameters, operands)


def _has_kernels(device: torch.device) -> bool:
    """Whether Triton's kernels run on a device."""
    return device.type == "cuda" and find_spec("triton") is not None
