"""Kernels that a piece of work would launch on a GPU, counted on any device."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from tegakari.indexer.training.saes import gpu_adam, gpu_gradients


class Launches(TorchDispatchMode):
    """Counts operations of torch that compute, and launches of Triton, in a `with` block. Triton's are not run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        for module in (gpu_adam, gpu_gradients):
            monkeypatch.setattr(module, "launch", self._launch)

    def _launch(self, kernel: Any, programs: int, *_arguments: object, **_constants: object) -> None:
        assert programs > 0
        self.counts[kernel.__name__] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        views = any(value.alias_info and not value.alias_info.is_write for value in func._schema.returns)
        if not views and "empty" not in name:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))
