"""One SAE while it is trained: parameters, loss and gradients, thresholds, and what wakes silent features."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from tegakari.models.sae import Sae

WAKING_GRADIENT = 0.1
"""Pull on the bias of a silent feature. Adam makes about a learning rate a step of it, whatever its size."""

THRESHOLD_DECAY = 0.99
"""Of the running mean of a BatchTopK's cuts."""

_BETAS = (0.9, 0.999)


class TrainableSae(nn.Module):
    """An SAE on residuals scaled to a mean norm of sqrt(d_model), with decoder rows of norm 1.

    `relu`: the loss of a position x is `||x - x_hat||^2 + l1 * sqrt(d_model) * sum_f a_f`. The factor makes l1 the
    coefficient for inputs of mean norm 1, so that one value suits models of every width.
    `batch_topk`: the k * batch largest activations of a batch are kept and there is no penalty (Bussmann et al. 2024).

    Rows of norm 1 keep the penalty from being escaped by long rows and small activations; after each step they are
    projected back, and the part of their gradient along themselves is left out (Bricken et al. 2023).

    Gradients are written out: they are five matrix products, where autograd runs six and keeps more between them.
    """

    def __init__(
        self,
        d_model: int,
        d_sae: int,
        *,
        architecture: Literal["relu", "batch_topk"],
        k: int,
        silent_steps: int,
        seed: int,
        device: torch.device,
    ) -> None:
        """Start from random directions, the encoder as the transpose of the decoder.

        Args:
            d_model: width of the residual.
            d_sae: features.
            architecture: what makes activations sparse.
            k: mean number of active features a position (batch_topk).
            silent_steps: steps without an activation after which a feature is woken.
            seed: of the directions.
            device: where everything lies.
        """
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        directions = nn.functional.normalize(torch.randn(d_sae, d_model, generator=generator), dim=1).to(device)
        self.W_dec = nn.Parameter(directions)
        self.W_enc = nn.Parameter(directions.T.clone(memory_format=torch.contiguous_format))
        self.b_enc = nn.Parameter(torch.zeros(d_sae, device=device))
        self.b_dec = nn.Parameter(torch.zeros(d_model, device=device))
        self.scale: Tensor
        self.cut: Tensor
        self.cut_weight: Tensor
        self.silent: Tensor
        self.register_buffer("scale", torch.ones((), dtype=torch.float64, device=device))
        self.register_buffer("cut", torch.zeros((), dtype=torch.float64, device=device))
        self.register_buffer("cut_weight", torch.zeros((), dtype=torch.float64, device=device))
        self.register_buffer("silent", torch.zeros(d_sae, dtype=torch.int32, device=device))
        self._architecture: Literal["relu", "batch_topk"] = architecture
        self._k = k
        self._silent_steps = silent_steps
        self.optimizer = torch.optim.Adam(self.parameters(), betas=_BETAS, fused=True)

    @torch.no_grad()
    def start_from(self, residual: Tensor) -> None:
        """Set the input scale and start the decoder's bias at the mean of some residuals, [P, d_model]."""
        norm = residual.double().norm(dim=1).mean().clamp_min(1e-12)
        self.scale.copy_(math.sqrt(residual.shape[1]) / norm)
        self.b_dec.copy_(residual.double().mean(0) * self.scale)

    @torch.no_grad()
    def step(self, residual: Tensor, *, l1: float, learning_rate: float) -> None:
        """One step of Adam on a batch of residuals, [B, d_model]. A GPU is not waited for."""
        self._set_gradients(residual.float() * self.scale, l1)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.W_dec.div_(self.W_dec.norm(dim=1, keepdim=True))

    def _set_gradients(self, x: Tensor, l1: float) -> None:
        """Gradients of the loss of scaled inputs [B, d_model], averaged over them, plus what wakes silent features."""
        a = self._activations(x)
        d_x_hat = torch.addmm(self.b_dec, a, self.W_dec).sub_(x).mul_(2 / len(x))
        d_a = d_x_hat @ self.W_dec.T
        if self._architecture == "relu":
            d_a.add_(l1 * math.sqrt(x.shape[1]) / len(x))
        d_pre = d_a.mul_(a.sign())  # sign, here and below: comparisons cost ten times as much on a CPU
        d_b_enc = d_pre.sum(0)
        d_W_dec = a.T @ d_x_hat
        d_W_dec -= (d_W_dec * self.W_dec).sum(1, keepdim=True) * self.W_dec
        self.W_dec.grad = d_W_dec
        # The encoder's input is x - b_dec: its part of the sums is taken out of them afterwards.
        self.W_enc.grad = (x.T @ d_pre).sub_(torch.outer(self.b_dec, d_b_enc))
        self.b_dec.grad = d_x_hat.sum(0) - self.W_enc @ d_b_enc
        self.silent.add_(1).mul_(a.amax(0) == 0)
        self.b_enc.grad = d_b_enc - WAKING_GRADIENT * (self.silent > self._silent_steps)

    def _activations(self, x: Tensor) -> Tensor:
        a = torch.addmm(self.b_enc - self.b_dec @ self.W_enc, x, self.W_enc).relu_()
        if self._architecture == "relu":
            return a
        kept = min(self._k * len(x), a.numel() - 1)
        cut = a.flatten().kthvalue(a.numel() - kept).values  # the largest that is left out
        # Inference has no batch to compare with: it uses the mean cut of the last steps (Bussmann et al. 2024).
        self.cut.mul_(THRESHOLD_DECAY).add_((1 - THRESHOLD_DECAY) * cut)
        self.cut_weight.mul_(THRESHOLD_DECAY).add_(1 - THRESHOLD_DECAY)
        return a.mul_((a - cut).sign_().clamp_min_(0))

    def is_finite(self) -> bool:
        """Whether training has not diverged."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.parameters())

    @torch.no_grad()
    def finished(self, layer: int) -> Sae:
        """The SAE as it is now, on the CPU."""
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
        )
