"""Precision of the matrix products of SAE training; weights, their gradients and Adam's moments are always float32.

`float32` rounds nothing. `tf32` lets a GPU round both operands of a product to 10 bits of mantissa. `bfloat16` rounds
them to 7 bits and stores activations so as well; the input is centred by the decoder bias before it is rounded, so that
the large common mean of residuals costs no precision. Sums are in float32 in each of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tegakari.schemas.config import SaesConfig
from tegakari.schemas.errors import SaeError
from tegakari.schemas.saes import Precision


def resolve_precision(settings: SaesConfig, device: torch.device) -> Precision:
    """Precision of a configuration on a device: `auto` is bfloat16 on a GPU that has it, float32 on a CPU.

    Raises:
        SaeError: TF32 on a device that is no GPU.
    """
    on_gpu = device.type == "cuda"
    if settings.precision == "auto":
        return "bfloat16" if on_gpu and torch.cuda.is_bf16_supported() else "float32"
    if settings.precision == "tf32" and not on_gpu:
        raise SaeError(
            f"a device of type {device.type} has no TF32",
            field="saes.precision",
            fix='set it to "auto", "float32" or "bfloat16"',
        )
    return settings.precision


def operand_dtype(precision: Precision) -> torch.dtype:
    """Dtype of the operands of products in memory."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix product with sums in float32 that are not rounded to the operands' dtype: float32 [M, N]."""
    if left.dtype == torch.float32:
        return left @ right
    if left.is_cuda:
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()
