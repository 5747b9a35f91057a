"""Launch of a Triton kernel, in one place: compilation without a GPU and counts of launches replace it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def launch(kernel: Any, programs: int, *arguments: object, **constants: object) -> None:
    """Run the programs of a kernel.

    Args:
        kernel: to a type checker it is the Python function, which has fewer parameters.
        programs: number of them.
        arguments: tensors and numbers, in the order of the kernel's parameters; tensors are on one device.
        constants: its constants, and `num_warps`.
    """
    tensor = next(argument for argument in arguments if isinstance(argument, Tensor))
    with torch.cuda.device_of(tensor):  # Triton launches on the current GPU, wherever the tensors are
        kernel[(programs,)](*arguments, **constants)
