"""Compile for sm_90, without a GPU, the kernel of drawn pairs at the size of the study.

As `kernel_ahead_of_time`: the pairs of a batch are drawn on meta tensors, and the launch goes to Triton's compiler.
"""

from __future__ import annotations

from typing import Any

import torch

from tegakari.indexer import drawn_pairs
from tegakari.kernels.gpu import launch
from tests.support.kernel_ahead_of_time import Usage, compiled

DRAWN = {"drawn pairs": (34, 9216), "drawn pairs odd": (1, 1003)}
"""Documents of a batch, and features."""


def drawn_launches(names: list[str]) -> list[Usage]:
    """Compile the kernel."""
    usages: list[Usage] = []
    for name in names:

        def compile_instead(kernel: Any, _programs: int, *arguments: Any, call: str = name, **constants: Any) -> None:
            usages.append(compiled(kernel, call, arguments, constants))

        launch.launch = compile_instead
        drawn_pairs.tallies_on_gpu = lambda _device: True
        documents, features = DRAWN[name]
        seeds, numbers, bound = (
            torch.empty(size, dtype=torch.int64, device="meta") for size in (features, documents, features)
        )
        drawn_pairs.drawn_pairs(seeds, numbers, bound)
    return usages
