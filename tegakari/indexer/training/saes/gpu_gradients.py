"""`gradients` with everything between its products in Triton kernels; a GPU would spend as long on it as on them.

Sums have one order, which depends on the shapes alone, so that a step gives the same bits each time.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from tegakari.indexer.training.saes.gradients import REVIVAL_GRADIENT, Batch, Gradients, Silence, largest_cut
from tegakari.indexer.training.saes.precision import product
from tegakari.kernels.gpu.launch import launch

# Triton reads the kernels and Python never runs them, so the types Python sees in them mislead.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false

TILE = {"ROWS": 32, "COLUMNS": 64, "num_warps": 4}
"""Positions and coordinates of a program that reads residuals."""
FEATURES = {"ROWS": 128, "FEATURES": 32, "num_warps": 8}
"""Positions of an iteration and features of a program that reads activations."""
BIAS = {"ROWS": 4, "BLOCK": 1024, "PARTS": 64, "num_warps": 8}
"""Coordinates of a program, features of an iteration, and sums of an iteration, of the decoder bias."""
KEPT = {"BLOCK": 2048, "num_warps": 8}
"""Activations of a program of BatchTopK."""


@triton.jit
def tile_of(rows, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Tile of a program [rows, width]: its block of rows, its columns, and start, places and mask of its elements."""
    columns = tl.cdiv(width, COLUMNS)
    block = tl.program_id(0) // columns
    column = tl.program_id(0) % columns * COLUMNS + tl.arange(0, COLUMNS)
    row = tl.arange(0, ROWS)
    mask = (block * ROWS + row < rows)[:, None] & (column < width)[None, :]
    # One 64-bit start and 32-bit distances from it: addresses of every element would take twice the registers.
    return block, column, block.to(tl.int64) * ROWS * width, row[:, None] * width + column[None, :], mask


@triton.jit
def centred_tile(residual, scale, b_dec, column, place, mask, width):
    """Scaled residuals without the decoder bias, float32."""
    x = tl.load(residual + place, mask=mask, other=0.0).to(tl.float32) * tl.load(scale).to(tl.float32)
    return x - tl.load(b_dec + column, mask=column < width, other=0.0)[None, :]


@triton.jit
def input_kernel(
    residual,  # [B, d_model]
    scale,  # [] float64
    b_dec,  # [d_model]
    operand,  # [B, d_model], in the dtype of the products
    rows,
    width,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Centred inputs as operand of a product."""
    _, column, start, place, mask = tile_of(rows, width, ROWS, COLUMNS)
    centred = centred_tile(residual + start, scale, b_dec, column, place, mask, width)
    tl.store(operand + start + place, centred.to(operand.dtype.element_ty), mask=mask)


@triton.jit
def error_kernel(
    reconstruction,  # [B, d_model] float32, without the decoder bias
    residual,  # [B, d_model]
    scale,  # [] float64
    b_dec,  # [d_model]
    d_x_hat,  # [B, d_model], in the dtype of the products
    partial,  # [ceil(B / ROWS), d_model]: sums over the positions of each tile
    factor,  # 2 / B
    rows,
    width,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Gradient of the reconstruction; the centred inputs are computed again, which reads less than storing them."""
    block, column, start, place, mask = tile_of(rows, width, ROWS, COLUMNS)
    centred = centred_tile(residual + start, scale, b_dec, column, place, mask, width)
    x_hat = tl.load(reconstruction + start + place, mask=mask, other=0.0)
    d = tl.where(mask, (x_hat - centred) * factor, 0.0)
    tl.store(d_x_hat + start + place, d.to(d_x_hat.dtype.element_ty), mask=mask)
    tl.store(partial + block * width + column, tl.sum(d, axis=0), mask=column < width)


@triton.jit
def feature_kernel(
    a,  # [B, d_sae]
    d_a,  # [B, d_sae], in the same dtype; becomes the gradient before the activation function
    penalty,  # [] float64, if PENALTY
    silent,  # [d_sae] int32: steps since each feature was active
    d_b_enc,  # [d_sae]: gradient of the loss
    b_enc,  # [d_sae]: with the gradient of silent features
    active,  # [d_sae]: positions at which each feature is active
    rows,
    d_sae,
    limit,
    REVIVAL: tl.constexpr,
    PENALTY: tl.constexpr,
    ROWS: tl.constexpr,
    FEATURES: tl.constexpr,
):
    """All positions of some features: one pass over activations and their gradients."""
    feature = tl.program_id(0) * FEATURES + tl.arange(0, FEATURES)
    inside = feature < d_sae
    row = tl.arange(0, ROWS)
    place = row[:, None] * d_sae + feature[None, :]
    share = 0.0
    if PENALTY:
        share = tl.load(penalty).to(tl.float32) / rows
    sums = tl.zeros([ROWS, FEATURES], tl.float32)
    counts = tl.zeros([ROWS, FEATURES], tl.float32)
    for first in range(0, rows, ROWS):
        mask = (row < rows - first)[:, None] & inside[None, :]
        is_active = tl.where(tl.load(a + place, mask=mask, other=0.0).to(tl.float32) > 0, 1.0, 0.0)
        d = tl.load(d_a + place, mask=mask, other=0.0).to(tl.float32) + share
        d = (d * is_active).to(d_a.dtype.element_ty)
        tl.store(d_a + place, d, mask=mask)
        sums += d.to(tl.float32)
        counts += is_active
        a += ROWS * d_sae
        d_a += ROWS * d_sae
    gradient = tl.sum(sums, axis=0)
    count = tl.sum(counts, axis=0)
    steps = tl.where(count == 0, tl.load(silent + feature, mask=inside, other=0) + 1, 0)
    tl.store(silent + feature, steps, mask=inside)
    tl.store(active + feature, count, mask=inside)
    tl.store(d_b_enc + feature, gradient, mask=inside)
    tl.store(b_enc + feature, gradient - tl.where(steps > limit, REVIVAL, 0.0), mask=inside)


@triton.jit
def decoder_bias_kernel(
    W_enc,  # [d_model, d_sae]
    d_b_enc,  # [d_sae]
    partial,  # [parts, d_model]: sums of the gradient of the reconstruction
    b_dec,  # [d_model]: gradient of the decoder bias
    parts,
    d_model,
    d_sae,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    PARTS: tl.constexpr,
):
    """Some coordinates: sums of the gradient of the reconstruction, less those that reach the input."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = row < d_model
    column = tl.arange(0, BLOCK)
    start = W_enc + (tl.program_id(0) * ROWS).to(tl.int64) * d_sae
    place = tl.arange(0, ROWS)[:, None] * d_sae + column[None, :]
    sums = tl.zeros([ROWS, BLOCK], tl.float32)
    for first in range(0, d_sae, BLOCK):
        there = column < d_sae - first
        weight = tl.load(start + first + place, mask=inside[:, None] & there[None, :], other=0.0)
        sums += weight.to(tl.float32) * tl.load(d_b_enc + first + column, mask=there, other=0.0)[None, :]
    part = tl.arange(0, PARTS)
    totals = tl.zeros([PARTS, ROWS], tl.float32)
    for first in range(0, parts, PARTS):
        mask = (part < parts - first)[:, None] & inside[None, :]
        totals += tl.load(partial + part[:, None] * d_model + row[None, :], mask=mask, other=0.0)
        partial += PARTS * d_model
    tl.store(b_dec + row, tl.sum(totals, axis=0) - tl.sum(sums, axis=1), mask=inside)


@triton.jit
def kept_kernel(
    pre,  # [count] float32: values before the activation function
    cut,  # [] float32, at least 0
    a,  # [count], in the dtype of the products
    count,
    BLOCK: tl.constexpr,
):
    """BatchTopK: values above the cut, 0 elsewhere."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(pre + place, mask=place < count, other=0.0)
    kept = tl.where(value > tl.load(cut), value, 0.0)
    tl.store(a + place, kept.to(a.dtype.element_ty), mask=place < count)


def gpu_gradients(
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
    """As `gradients`; nothing in it waits for the GPU."""
    (rows, d_model), d_sae = batch.residual.shape, len(W_dec)
    residual = batch.residual.contiguous()
    operand, d_x_hat = residual.new_empty(2, rows, d_model, dtype=W_enc.dtype)
    parts = triton.cdiv(rows, TILE["ROWS"])
    tiles = parts * triton.cdiv(d_model, TILE["COLUMNS"])
    launch(input_kernel, tiles, residual, batch.scale, b_dec, operand, rows, d_model, **TILE)
    a, cut = _activations(operand, W_enc, b_enc, k=0 if penalty is not None else k)
    partial = b_dec.new_empty(parts, d_model)
    launch(
        error_kernel, tiles,
        product(a, W_dec), residual, batch.scale, b_dec, d_x_hat, partial, 2 / rows, rows, d_model, **TILE,
    )  # fmt: skip
    d_pre = d_x_hat @ W_dec.T  # before the kernel it is that of the activations
    d_b_enc, b_enc_gradient, active = b_dec.new_empty(3, d_sae)
    launch(
        feature_kernel, triton.cdiv(d_sae, FEATURES["FEATURES"]),
        a, d_pre, batch.scale if penalty is None else penalty, silence.steps, d_b_enc, b_enc_gradient, active,
        rows, d_sae, silence.limit, REVIVAL=REVIVAL_GRADIENT, PENALTY=penalty is not None, **FEATURES,
    )  # fmt: skip
    b_dec_gradient = torch.empty_like(b_dec)
    launch(
        decoder_bias_kernel, triton.cdiv(d_model, BIAS["ROWS"]),
        W_enc, d_b_enc, partial, b_dec_gradient, parts, d_model, d_sae, **BIAS,
    )  # fmt: skip
    return Gradients(
        W_enc=product(operand.T, d_pre),
        W_dec=product(a.T, d_x_hat),
        b_enc=b_enc_gradient,
        b_dec=b_dec_gradient,
        active=active,
        cut=cut,
    )


def _activations(centred: Tensor, W_enc: Tensor, b_enc: Tensor, *, k: int) -> tuple[Tensor, Tensor | None]:
    """As `activations`."""
    if not k:
        return torch.ops.aten._addmm_activation(
            b_enc.to(W_enc.dtype), centred, W_enc
        ), None  # relu, before it is written
    pre = product(centred, W_enc).add_(b_enc)
    cut = largest_cut(pre, k).clamp_min_(0)
    a = pre if pre.dtype == W_enc.dtype else torch.empty_like(pre, dtype=W_enc.dtype)
    launch(kept_kernel, triton.cdiv(pre.numel(), KEPT["BLOCK"]), pre, cut, a, pre.numel(), **KEPT)
    return a, cut
