"""Adam in Triton: the projection of the gradient, the step, norms of rows and rounded copies in one pass.

The weights of an SAE are far larger than a batch, so a step is bound by memory: what torch does in ten passes over
weights, gradients and moments, the kernel does in one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from tegakari.indexer.training.saes.adam import BETAS, EPSILON, UNIT_ROWS
from tegakari.kernels.gpu.launch import launch

# Triton reads the kernels and Python never runs them, so the types Python sees in them mislead.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false

BLOCK = {"HEAD": 1024, "TAIL": 0, "num_warps": 8}
"""Elements per program of a matrix whose rows are independent of each other; each thread has 16 bytes of them."""

PAIRS = (("W_enc", "b_enc"), ("W_dec", "b_dec"))
"""Matrices and the vectors that one launch changes with them."""


@triton.jit
def piece_of(weight, gradient, mean, square, place, mask):
    """Elements of all four; they are loaded before anything is computed, so that they arrive together."""
    return (
        tl.load(weight + place, mask=mask, other=0.0),
        tl.load(gradient + place, mask=mask, other=0.0),
        tl.load(mean + place, mask=mask, other=0.0),
        tl.load(square + place, mask=mask, other=0.0),
    )


@triton.jit
def moved(w, g, m, v, rate, root, MEAN_DECAY: tl.constexpr, SQUARE_DECAY: tl.constexpr, EPSILON: tl.constexpr):
    """Weight, mean and mean square after a step."""
    m = MEAN_DECAY * m + (1 - MEAN_DECAY) * g
    v = SQUARE_DECAY * v + (1 - SQUARE_DECAY) * g * g
    return w - rate * m / (tl.sqrt(v) / root + EPSILON), m, v


@triton.jit
def write(weight, mean, square, operand, place, mask, w, m, v, COPY: tl.constexpr):
    """Store elements, the weight also as operand of products."""
    tl.store(weight + place, w, mask=mask)
    tl.store(mean + place, m, mask=mask)
    tl.store(square + place, v, mask=mask)
    if COPY:
        tl.store(operand + place, w.to(operand.dtype.element_ty), mask=mask)


@triton.jit
def row_step(
    weight, gradient, mean, square, operand, row, count, width, rate, root,
    UNIT: tl.constexpr, COPY: tl.constexpr, MEAN_DECAY: tl.constexpr, SQUARE_DECAY: tl.constexpr, EPSILON: tl.constexpr,
    HEAD: tl.constexpr, TAIL: tl.constexpr,
):  # fmt: skip
    """One step of a row, or of what is left of `count` elements. It has two pieces, whose sizes are powers of two."""
    start = row.to(tl.int64) * width
    left = tl.minimum(count - start, width).to(tl.int32)  # of 2^31 elements and more, the difference is no int32
    weight += start
    gradient += start
    mean += start
    square += start
    operand += start
    head = tl.arange(0, HEAD)
    inside = head < left
    w, g, m, v = piece_of(weight, gradient, mean, square, head, inside)
    if TAIL:
        tail = HEAD + tl.arange(0, TAIL)
        tail_inside = (tail < width) & (tail < left)
        tail_w, tail_g, tail_m, tail_v = piece_of(weight, gradient, mean, square, tail, tail_inside)
    if UNIT:
        along = tl.sum(g * w, 0)
        if TAIL:
            along += tl.sum(tail_g * tail_w, 0)
            tail_g -= along * tail_w
        g -= along * w
    w, m, v = moved(w, g, m, v, rate, root, MEAN_DECAY, SQUARE_DECAY, EPSILON)
    if TAIL:
        tail_w, tail_m, tail_v = moved(
            tail_w, tail_g, tail_m, tail_v, rate, root, MEAN_DECAY, SQUARE_DECAY, EPSILON
        )  # fmt: skip
    if UNIT:
        norm = tl.sum(w * w, 0)
        if TAIL:
            norm += tl.sum(tail_w * tail_w, 0)
            tail_w /= tl.sqrt(norm)
        w /= tl.sqrt(norm)
    write(weight, mean, square, operand, head, inside, w, m, v, COPY)
    if TAIL:
        write(weight, mean, square, operand, tail, tail_inside, tail_w, tail_m, tail_v, COPY)


@triton.jit
def adam_kernel(
    weight,  # [count], as rows of `width` elements
    gradient,
    mean,
    square,
    operand,  # [count], if COPY: a copy of the weight in its own dtype, or the weight itself
    bias,  # [bias_count], as rows of the same width
    bias_gradient,
    bias_mean,
    bias_square,
    bias_operand,
    rate,  # learning rate / (1 - MEAN_DECAY ** step)
    root,  # sqrt(1 - SQUARE_DECAY ** step)
    count,
    bias_count,
    width,
    UNIT: tl.constexpr,
    COPY: tl.constexpr,
    MEAN_DECAY: tl.constexpr,
    SQUARE_DECAY: tl.constexpr,
    EPSILON: tl.constexpr,
    HEAD: tl.constexpr,
    TAIL: tl.constexpr,
):
    """One step of Adam for a row of the matrix or of the bias.

    UNIT: the gradient of the matrix loses its component along the row, and the row gets norm 1.
    """
    row = tl.program_id(0)
    rows = tl.cdiv(count, width)
    if row < rows:
        row_step(
            weight, gradient, mean, square, operand, row, count, width, rate, root,
            UNIT, COPY, MEAN_DECAY, SQUARE_DECAY, EPSILON, HEAD, TAIL,
        )  # fmt: skip
    else:
        row_step(
            bias, bias_gradient, bias_mean, bias_square, bias_operand, row - rows, bias_count, width, rate, root,
            False, COPY, MEAN_DECAY, SQUARE_DECAY, EPSILON, HEAD, TAIL,
        )  # fmt: skip


class GpuAdam:
    """Adam by `adam_kernel`, with the state of `TorchAdam`. Nothing in it waits for the GPU."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], operands: Mapping[str, Tensor]) -> None:
        self._parameters = parameters
        self._operands = operands
        self._steps = 0
        self._moments = {
            name: (torch.zeros_like(parameter.data), torch.zeros_like(parameter.data))
            for name, parameter in parameters.items()
        }

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        self._steps += 1
        mean_correction, square_correction = (1 - decay**self._steps for decay in BETAS)
        for matrix, bias in PAIRS:
            counts = [self._parameters[name].numel() for name in (matrix, bias)]
            unit = matrix == UNIT_ROWS
            shape = row_pieces(self._parameters[matrix].shape[1]) if unit else BLOCK
            width = self._parameters[matrix].shape[1] if unit else BLOCK["HEAD"]
            launch(
                adam_kernel, sum(triton.cdiv(count, width) for count in counts),
                *self._tensors_of(matrix), *self._tensors_of(bias),
                learning_rate / mean_correction, square_correction**0.5, *counts, width,
                UNIT=unit, COPY=matrix in self._operands,
                MEAN_DECAY=BETAS[0], SQUARE_DECAY=BETAS[1], EPSILON=EPSILON, **shape,
            )  # fmt: skip

    def _tensors_of(self, name: str) -> tuple[Tensor, ...]:
        weight, gradient = self._parameters[name].data, self._parameters[name].grad
        assert gradient is not None
        return weight, gradient.contiguous(), *self._moments[name], self._operands.get(name, weight)

    def tensors(self) -> dict[str, Tensor]:
        if not self._steps:
            return {}
        tensors: dict[str, Tensor] = {}
        for name, (mean, square) in self._moments.items():
            step = torch.tensor(float(self._steps), device=mean.device)
            tensors |= {f"{name}.step": step, f"{name}.exp_avg": mean, f"{name}.exp_avg_sq": square}
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        for name, (mean, square) in self._moments.items():
            mean.copy_(tensors[f"{name}.exp_avg"])
            square.copy_(tensors[f"{name}.exp_avg_sq"])
            self._steps = int(tensors[f"{name}.step"])


def row_pieces(width: int) -> dict[str, int]:
    """Constants of the kernel for whole rows: 2,304 elements are pieces of 2,048 and 256, not one of 4,096."""
    head = 1 << (width.bit_length() - 1)
    tail = 1 << (width - head - 1).bit_length() if width > head else 0
    return {"HEAD": head, "TAIL": tail, "num_warps": max(1, min(16, head // 256))}
