"""Operations that make the host wait for a GPU, counted on any device."""

from __future__ import annotations

import traceback
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2", "tolist"}
"""Their result, or its shape, depends on values, which the host must read."""


class HostWaits(TorchDispatchMode):
    """Counts the operations in a `with` block that would wait for a GPU, if the tensors were on one.

    Beside `WAITING`: copies to the CPU, indices that are masks, and repeats whose total is not given.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.places: list[str] = []
        """file, line and code of each"""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if _waits(name, args, kwargs):
            self.counts[name] += 1
            self.places.append(_caller())
        return func(*args, **kwargs)


def _caller() -> str:
    """The innermost line outside torch and this file."""
    frames = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
    caller = next(frame for frame in reversed(frames) if frame.filename != __file__)
    return f"{caller.filename}:{caller.lineno} {caller.line}"


def _waits(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    if name == "_to_copy":
        device = kwargs.get("device")
        return device is not None and torch.device(device).type == "cpu"
    if name in ("index", "index_put", "index_put_"):
        return any(isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1])
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    return name in WAITING
