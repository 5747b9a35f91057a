"""Compile for sm_90, without a GPU, the kernel of soft-capped attention at the sizes of Gemma 2.

As `kernel_ahead_of_time`: attention of one layer runs on meta tensors, and its launch goes to Triton's compiler.
"""

from __future__ import annotations

from typing import Any

import torch

from tegakari.kernels.gpu import attention
from tests.support.kernel_ahead_of_time import Usage, compiled

ATTENTION = {"attention of gemma-2-2b": (8, 4, 256), "attention of gemma-2-27b": (32, 16, 128)}
"""Heads, key heads and size of a head."""


def attention_launches(names: list[str]) -> list[Usage]:
    """Compile the kernel; strides are those of projections, whose heads lie beside each other."""
    usages: list[Usage] = []
    for name in names:

        def compile_instead(kernel: Any, _programs: int, *arguments: Any, call: str = name, **constants: Any) -> None:
            usages.append(compiled(kernel, call, arguments, constants))

        attention.launch = compile_instead
        heads, key_heads, size = ATTENTION[name]
        query, key, value = (
            torch.empty(3, 163, number, size, device="meta", dtype=torch.bfloat16).transpose(1, 2)
            for number in (heads, key_heads, key_heads)
        )
        lengths = torch.empty(3, device="meta", dtype=torch.int32)
        attention.soft_capped_attention(query, key, value, lengths, scale=size**-0.5, cap=50.0, window=4096)
    return usages
