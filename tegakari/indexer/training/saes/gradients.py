"""Gradients of the loss of one SAE on a batch, by hand: five matrix products, where autograd runs six.

Autograd would also store more between them. Nothing here waits for a GPU. `gpu_gradients` computes the same with fewer
kernels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tegakari.indexer.training.saes.precision import product

PRODUCTS = 5
"""Matrix products of a step."""

REVIVAL_GRADIENT = 0.1
"""Gradient on the encoder bias of a silent feature. Adam turns any constant into about one learning rate per step."""


class Batch(NamedTuple):
    """Positions of a step."""

    residual: Tensor
    """[B, d_model]; not scaled"""
    scale: Tensor
    """[]; factor that makes the residuals inputs of the SAE"""


class Silence(NamedTuple):
    """How long features have been silent."""

    steps: Tensor
    """[d_sae] int32; steps since a feature was active, which each step changes"""
    limit: int
    """steps after which a feature is revived"""


class Gradients(NamedTuple):
    """Gradients of the mean loss of a batch, and what the batch tells about sparsity; float32."""

    W_enc: Tensor
    """[d_model, d_sae]"""
    W_dec: Tensor
    """[d_sae, d_model]"""
    b_enc: Tensor
    """[d_sae]; with the gradient that revives silent features"""
    b_dec: Tensor
    """[d_model]"""
    active: Tensor
    """[d_sae]; number of positions at which each feature is active"""
    cut: Tensor | None
    """[]; the largest activation of the batch that BatchTopK sets to 0; None for ReLU"""


def gradients(
    batch: Batch,
    W_enc: Tensor,
    W_dec: Tensor,
    b_enc: Tensor,
    b_dec: Tensor,
    silence: Silence,
    *,
    penalty: Tensor | None,
    k: int,
) -> Gradients:
    """Gradients of the mean over positions of `||x - x_hat||^2 + penalty * sum_f a_f`; counts the steps of silence.

    Args:
        batch: residuals, of which x are the scaled ones.
        W_enc: [d_model, d_sae], in the dtype of the products' operands.
        W_dec: [d_sae, d_model], in the same dtype.
        b_enc: [d_sae], float32 or, for ReLU, in that dtype.
        b_dec: float32 [d_model].
        silence: of the features; its steps are changed.
        penalty: weight of the sum of activations, []; None: BatchTopK, without penalty.
        k: mean number of active features per position (BatchTopK).
    """
    centred = batch.residual.float() * batch.scale - b_dec
    operand = centred.to(W_enc.dtype)
    a, cut = activations(operand, W_enc, b_enc, k=0 if penalty is not None else k)
    d_x_hat = product(a, W_dec).sub_(centred).mul_(2 / len(centred))
    d_operand = d_x_hat.to(W_dec.dtype)
    d_a = d_operand @ W_dec.T
    if penalty is not None:
        d_a.add_(penalty / len(centred))
    is_active = a.sign()  # sign, here and below: a comparison takes ten times as long on a CPU
    d_pre = d_a.mul_(is_active)
    d_b_enc = d_pre.sum(0, dtype=torch.float32)
    active = is_active.sum(0, dtype=torch.float32)
    silence.steps.add_(1).mul_(active == 0)
    return Gradients(
        W_enc=product(operand.T, d_pre),
        W_dec=product(a.T, d_operand),
        b_enc=d_b_enc - REVIVAL_GRADIENT * (silence.steps > silence.limit),
        b_dec=d_x_hat.sum(0) - (W_enc @ d_b_enc.to(W_enc.dtype)).float(),
        active=active,
        cut=cut,
    )


def step_flop(positions: int, *, d_model: int, d_sae: int) -> int:
    """Operations of the matrix products of steps on a number of positions."""
    return PRODUCTS * 2 * positions * d_model * d_sae


def activations(centred: Tensor, W_enc: Tensor, b_enc: Tensor, *, k: int) -> tuple[Tensor, Tensor | None]:
    """Activations [B, d_sae] of centred inputs [B, d_model], and BatchTopK's cut if `k` is not 0.

    The cut is the largest activation that becomes 0.
    """
    if not k:
        return torch.addmm(b_enc.to(W_enc.dtype), centred, W_enc).relu_(), None
    a = product(centred, W_enc).add_(b_enc).relu_()  # float32: rounded to bfloat16, many would equal the cut
    cut = largest_cut(a, k)
    return a.mul_((a - cut).sign_().clamp_min_(0)).to(W_enc.dtype), cut


def largest_cut(a: Tensor, k: int) -> Tensor:
    """The value that `k` values per row of `a`, [B, d_sae], exceed in the mean or, with ties, fewer."""
    values = a.flatten()
    larger = min(k * len(a), len(values) - 1)
    if values.is_cuda:  # kthvalue of one row runs on one block of threads there, topk on all
        return values.topk(larger + 1, sorted=False).values.amin()
    return values.kthvalue(len(values) - larger).values
