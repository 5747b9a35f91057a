"""Adam in one Triton kernel per parameter: the projection of the gradient, the step, and norms of rows in one pass.

The weights of an SAE are far larger than a batch, so a step is bound by memory: what torch does in ten passes over
weights, gradients and moments, the kernel does in one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from tegakari.indexer.training.saes.adam import BETAS, EPSILON, UNIT_ROWS

# Triton reads this function and Python never runs it, so the types Python sees in it mislead.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false

BLOCK = 2048
"""Elements per program of parameters whose rows are independent of each other."""


@triton.jit
def adam_kernel(
    weight,  # [count], as rows of `width` elements
    gradient,
    mean,
    square,
    operand,  # [count], a copy of the weight in its own dtype
    learning_rate,
    mean_correction,  # 1 - beta ** step
    square_correction,
    count,
    width,
    MEAN_DECAY: tl.constexpr,
    SQUARE_DECAY: tl.constexpr,
    EPSILON: tl.constexpr,
    UNIT: tl.constexpr,
    COPY: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """One step of Adam for a row. UNIT: the gradient loses its component along the row, the row gets norm 1."""
    column = tl.arange(0, WIDTH)
    place = tl.program_id(0).to(tl.int64) * width + column
    mask = (column < width) & (place < count)
    w = tl.load(weight + place, mask=mask, other=0.0)
    g = tl.load(gradient + place, mask=mask, other=0.0)
    if UNIT:
        g -= tl.sum(g * w, 0) * w
    m = tl.load(mean + place, mask=mask, other=0.0)
    v = tl.load(square + place, mask=mask, other=0.0)
    m = MEAN_DECAY * m + (1 - MEAN_DECAY) * g
    v = SQUARE_DECAY * v + (1 - SQUARE_DECAY) * g * g
    w -= learning_rate * (m / mean_correction) / (tl.sqrt(v / square_correction) + EPSILON)
    if UNIT:
        w /= tl.sqrt(tl.sum(w * w, 0))
    tl.store(weight + place, w, mask=mask)
    tl.store(mean + place, m, mask=mask)
    tl.store(square + place, v, mask=mask)
    if COPY:
        tl.store(operand + place, w.to(operand.dtype.element_ty), mask=mask)


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
        corrections = [1 - decay**self._steps for decay in BETAS]
        for name, parameter in self._parameters.items():
            assert parameter.grad is not None
            gradient = parameter.grad.contiguous()
            unit = name == UNIT_ROWS
            width = parameter.shape[1] if unit else BLOCK
            operand = self._operands.get(name)
            kernel: Any = adam_kernel  # to a type checker it is the Python function
            kernel[(triton.cdiv(parameter.numel(), width),)](
                parameter.data,
                gradient,
                *self._moments[name],
                parameter.data if operand is None else operand,
                learning_rate,
                *corrections,
                parameter.numel(),
                width,
                *BETAS,
                EPSILON,
                UNIT=unit,
                COPY=operand is not None,
                WIDTH=triton.next_power_of_2(width),
                num_warps=8,
            )

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
