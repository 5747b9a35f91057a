"""One SAE while it is trained: parameters, loss, thresholds, and what is done about silent features."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from tegakari.models.sae import Sae

DECODER_NORM = 0.1
"""Norm of the decoder's rows at the start; the encoder starts as its transpose (Conerly et al. 2024)."""

GRADIENT_NORM = 1.0
"""Gradients are clipped to this norm."""

_BETAS = (0.9, 0.999)


class TrainableSae(nn.Module):
    """An SAE on residuals scaled to a mean norm of sqrt(d_model).

    `relu`: `sum (x - x_hat)^2 + l1 * sum_f a_f ||W_dec_f||`, averaged over positions. Weighting the L1 penalty with the
    decoder's norms leaves nothing to gain by growing them, so they need no projection (Conerly et al. 2024).
    `batch_topk`: the k * batch largest activations of a batch are kept and there is no penalty (Bussmann et al. 2024).
    """

    def __init__(
        self,
        d_model: int,
        d_sae: int,
        *,
        architecture: Literal["relu", "batch_topk"],
        k: int,
        learning_rate: float,
        seed: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(d_sae, d_model, generator=generator)
        directions = (DECODER_NORM * directions / directions.norm(dim=1, keepdim=True)).to(device)
        self.W_dec = nn.Parameter(directions)
        self.W_enc = nn.Parameter(directions.T.clone().contiguous())
        self.b_enc = nn.Parameter(torch.zeros(d_sae, device=device))
        self.b_dec = nn.Parameter(torch.zeros(d_model, device=device))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64, device=device))
        self.register_buffer("threshold", torch.zeros((), dtype=torch.float64, device=device))
        self.register_buffer("fired", torch.zeros(d_sae, dtype=torch.bool, device=device))
        self.register_buffer("resampled", torch.zeros((), dtype=torch.int64, device=device))
        self.scale: Tensor
        self.threshold: Tensor
        self.fired: Tensor
        self.resampled: Tensor
        self._architecture = architecture
        self._k = k
        self.optimizer = torch.optim.Adam(self.parameters(), lr=learning_rate, betas=_BETAS, foreach=True)

    @torch.no_grad()
    def start_from(self, residual: Tensor) -> None:
        """Set the input scale and start the decoder's bias at the mean of some residuals, [P, d_model]."""
        norms = residual.double().norm(dim=1).mean().clamp_min(1e-12)
        self.scale.copy_(math.sqrt(residual.shape[1]) / norms)
        self.b_dec.copy_(residual.double().mean(0) * self.scale)

    def step(self, residual: Tensor, *, l1: float, learning_rate: float) -> None:
        """One step of Adam on a batch of residuals, [B, d_model]."""
        x = residual.float() * self.scale.float()
        a = self._activations(x)
        x_hat = a @ self.W_dec + self.b_dec
        loss = (x - x_hat).square().sum(1).mean()
        if self._architecture == "relu":
            loss = loss + l1 * (a @ self.W_dec.norm(dim=1)).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), GRADIENT_NORM)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        with torch.no_grad():
            self.fired |= (a > 0).any(0)

    def _activations(self, x: Tensor) -> Tensor:
        a = torch.relu((x - self.b_dec) @ self.W_enc + self.b_enc)
        if self._architecture == "relu":
            return a
        kept = min(self._k * len(x), a.numel())
        cut = a.detach().flatten().topk(kept).values[-1]
        # Inference has no batch to compare with: it uses the mean cut of the steps (Bussmann et al. 2024).
        mean = cut.double() if self.threshold == 0 else 0.99 * self.threshold + 0.01 * cut.double()
        self.threshold.copy_(mean)
        return a * (a >= cut)

    @torch.no_grad()
    def resample_silent(self, residual: Tensor, seed: int) -> None:
        """Point features that never fired since the last call at inputs that are reconstructed badly.

        Inputs are drawn with probability proportional to their squared error (Bricken et al. 2023, "Neuron
        resampling"); the encoder gets 0.2 of the mean norm of the features that do fire.

        Args:
            residual: [P, d_model] to draw from.
            seed: of the draw.
        """
        silent = torch.nonzero(~self.fired)[:, 0]
        self.fired.zero_()
        if not len(silent) or len(silent) == self.W_enc.shape[1]:
            return
        x = residual.float() * self.scale.float()
        a = self._activations(x)
        error = x - (a @ self.W_dec + self.b_dec)
        weight = error.square().sum(1).double().square().cpu()
        if not weight.sum() > 0:
            return
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.multinomial(weight, len(silent), replacement=True, generator=generator).to(x.device)
        directions = nn.functional.normalize(error[drawn], dim=1)
        alive = torch.ones(self.W_enc.shape[1], dtype=torch.bool, device=x.device)
        alive[silent] = False
        self.W_dec[silent] = DECODER_NORM * directions
        self.W_enc[:, silent] = 0.2 * self.W_enc[:, alive].norm(dim=0).mean() * directions.T
        self.b_enc[silent] = 0
        self._forget(self.W_dec, (silent,))
        self._forget(self.W_enc, (slice(None), silent))
        self._forget(self.b_enc, (silent,))
        self.resampled += len(silent)

    def _forget(self, parameter: nn.Parameter, where: tuple[object, ...]) -> None:
        """Clear Adam's moments of reset entries, which belong to the old direction."""
        state = self.optimizer.state.get(parameter, {})
        for name in ("exp_avg", "exp_avg_sq"):
            if name in state:
                state[name][where] = 0

    @torch.no_grad()
    def finished(self, layer: int) -> Sae:
        """The SAE as it is now, on the CPU. Decoder rows get norm 1, which leaves the function as it is."""
        norms = self.W_dec.norm(dim=1).clamp_min(1e-12)
        threshold = None
        if self._architecture == "batch_topk":
            threshold = (self.threshold.float() * norms).cpu()
        return Sae(
            W_enc=(self.W_enc * norms).detach().cpu(),
            W_dec=(self.W_dec / norms[:, None]).detach().cpu(),
            b_enc=(self.b_enc * norms).detach().cpu(),
            b_dec=self.b_dec.detach().cpu(),
            activation="batch_topk" if self._architecture == "batch_topk" else "relu",
            threshold=threshold,
            scale=float(self.scale),
            apply_b_dec_to_input=True,
            layer=layer,
        )
