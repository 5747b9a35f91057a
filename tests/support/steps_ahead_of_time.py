"""Compile for sm_90, without a GPU, the kernels of a step of SAE training at the size of the study.

As `kernel_ahead_of_time`: the step runs on meta tensors, and every launch goes to Triton's compiler.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tegakari.indexer.training.saes import gpu_adam, gpu_gradients
from tegakari.indexer.training.saes.gradients import Batch, Silence
from tests.support.kernel_ahead_of_time import Usage, compiled, variant_of

STEPS = {
    "step": (512, 2304, 9216, torch.bfloat16, 0),
    "step topk": (512, 2304, 9216, torch.bfloat16, 64),
    "step float32": (512, 2304, 9216, torch.float32, 0),
    "step odd": (509, 576, 1003, torch.bfloat16, 0),
    "step wide": (4096, 8192, 65536, torch.bfloat16, 0),
}
"""Positions, d_model, d_sae, dtype of the products' operands, k."""


def step_launches(names: list[str]) -> list[Usage]:
    """Compile the kernels of steps, each variant once."""
    usages: dict[str, Usage] = {}
    for name in names:

        def compile_instead(kernel: Any, _programs: int, *arguments: Any, call: str = name, **constants: Any) -> None:
            variant = variant_of(kernel, arguments, constants)
            if variant not in usages:
                usages[variant] = compiled(kernel, call, arguments, constants)

        gpu_adam.launch = gpu_gradients.launch = compile_instead
        _step(*STEPS[name])
    return list(usages.values())


def _step(positions: int, d_model: int, d_sae: int, dtype: torch.dtype, k: int) -> None:
    meta = torch.device("meta")
    shapes = {"W_enc": (d_model, d_sae), "W_dec": (d_sae, d_model), "b_enc": (d_sae,), "b_dec": (d_model,)}
    parameters = {name: nn.Parameter(torch.empty(shape, device=meta)) for name, shape in shapes.items()}
    weights = {name: parameter.detach() for name, parameter in parameters.items()}
    rounded = ("W_enc", "W_dec") if k else ("W_enc", "W_dec", "b_enc")
    operands = {} if dtype == torch.float32 else {name: weights[name].to(dtype) for name in rounded}
    scalar = torch.empty((), dtype=torch.float64, device=meta)
    gradients = gpu_gradients.gpu_gradients(
        Batch(torch.empty(positions, d_model, dtype=torch.bfloat16, device=meta), scalar),
        **(weights | operands),
        silence=Silence(torch.empty(d_sae, dtype=torch.int32, device=meta), 1000),
        penalty=None if k else scalar,
        k=k,
    )
    for name, parameter in parameters.items():
        parameter.grad = getattr(gradients, name)
    gpu_adam.GpuAdam(parameters, operands).step(1e-3)
