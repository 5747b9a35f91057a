"""Operations that make the host wait for a GPU, counted on any device."""

from __future__ import annotations

import traceback
from collections import Counter
from contextlib import ExitStack
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tegakari.models.rerun.host_access import reads_values

COPIES = {Tensor.cpu, Tensor.numpy, Tensor.tolist}
"""Methods that bring values to the host; on a CPU they are no operation at all."""


class HostWaits:
    """Counts what would wait for a GPU in a `with` block, if the tensors were on one.

    Operations of `reads_values`, methods of `COPIES`, and `to("cpu")`.
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
        if reads_values(name, args, kwargs):
            self._waits.add(name)
        return func(*args, **kwargs)


def _caller() -> str:
    """The innermost line outside torch and this file."""
    frames = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
    caller = next(frame for frame in reversed(frames) if frame.filename != __file__)
    return f"{caller.filename}:{caller.lineno} {caller.line}"
