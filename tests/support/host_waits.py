"""Operations that make the host wait for a GPU, counted on any device."""

from __future__ import annotations

import traceback
from collections import Counter
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2"}
"""Operations whose result, or its shape, depends on values, which the host must read."""

COPIES = {Tensor.cpu, Tensor.numpy, Tensor.tolist}
"""Methods that bring values to the host; on a CPU they are no operation at all."""


class HostWaits:
    """Counts what would wait for a GPU in a `with` block, if the tensors were on one.

    Beside `WAITING` and `COPIES`: `to("cpu")`, indices that are masks, and repeats whose total is not given.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.places: list[str] = []
        """file, line and code of each"""
        self._modes = ExitStack()

    def __enter__(self) -> HostWaits:
        self._modes.enter_context(_Methods(self))
        self._modes.enter_context(_Operations(self))
        return self

    def __exit__(self, *_: object) -> None:
        self._modes.close()

    def add(self, name: str) -> None:
        self.counts[name] += 1
        self.places.append(_caller())


class _Methods(TorchFunctionMode):
    def __init__(self, waits: HostWaits) -> None:
        self._waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in COPIES or (func is Tensor.to and "cpu" in [value for value in args[1:] if isinstance(value, str)]):
            self._waits.add(func.__name__)
        return func(*args, **(kwargs or {}))


class _Operations(TorchDispatchMode):
    def __init__(self, waits: HostWaits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in WAITING or _reads_values(name, args, kwargs):
            self._waits.add(name)
        return func(*args, **kwargs)


def _reads_values(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    if name in ("index", "index_put", "index_put_"):
        return any(isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1])
    return name == "repeat_interleave" and kwargs.get("output_size") is None


def _caller() -> str:
    """The innermost line outside torch and this file."""
    frames = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
    caller = next(frame for frame in reversed(frames) if frame.filename != __file__)
    return f"{caller.filename}:{caller.lineno} {caller.line}"
