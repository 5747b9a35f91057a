"""Adam for the parameters of one SAE; after each step, the rows of the decoder have norm 1 again."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.999)
"""Decay of the running means of the gradient and of its square."""

EPSILON = 1e-8
"""Added to the root of the mean square."""

UNIT_ROWS = "W_dec"
"""The parameter whose rows keep norm 1, and whose gradient has no component along them."""


class Adam(Protocol):
    """Adam (Kingma and Ba 2015) without weight decay."""

    def step(self, learning_rate: float) -> None:
        """Change every parameter by its gradient, and write its value as operand of products."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """State by `<parameter>.exp_avg`, `<parameter>.exp_avg_sq` and `<parameter>.step`; empty before a step."""
        ...

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state of `tensors`, from any device and any implementation."""
        ...


def make_adam(parameters: Mapping[str, nn.Parameter], operands: Mapping[str, Tensor]) -> Adam:
    """The implementation for the parameters' device.

    Args:
        parameters: float32.
        operands: copies of some parameters in another dtype, which follow them.
    """
    if next(iter(parameters.values())).is_cuda and find_spec("triton"):
        from tegakari.indexer.training.saes.gpu_adam import GpuAdam  # Triton is absent on most machines

        return GpuAdam(parameters, operands)
    return TorchAdam(parameters, operands)


class TorchAdam:
    """Adam of torch, on any device."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], operands: Mapping[str, Tensor]) -> None:
        self._parameters = parameters
        self._operands = operands
        self._optimizer = torch.optim.Adam(parameters.values(), betas=BETAS, eps=EPSILON, fused=True)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        unit = self._parameters[UNIT_ROWS]
        assert unit.grad is not None
        unit.grad -= (unit.grad * unit).sum(1, keepdim=True) * unit
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        unit.div_(unit.norm(dim=1, keepdim=True))
        for name, operand in self._operands.items():
            operand.copy_(self._parameters[name])

    def tensors(self) -> dict[str, Tensor]:
        return {
            f"{name}.{key}": value
            for name, parameter in self._parameters.items()
            for key, value in self._optimizer.state[parameter].items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            prefix = f"{name}."
            self._optimizer.state[parameter] = {
                key.removeprefix(prefix): value.to(parameter.device)
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
