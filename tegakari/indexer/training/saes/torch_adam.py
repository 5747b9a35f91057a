"""Adam of torch for the parameters of one SAE; after each step, the rows of the decoder have norm 1 again."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tegakari.indexer.training.saes.adam import BETAS, EPSILON, UNIT_ROWS


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
