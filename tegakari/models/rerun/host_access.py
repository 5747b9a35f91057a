"""Operations that make a device and its host wait for each other, or exchange values, which no recording can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITING = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2"}
"""Operations whose result, or its shape, depends on values, which the host must read."""


def reads_values(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether an operation makes the host wait for values of its arguments, if they are on a GPU."""
    if name in WAITING:
        return True
    if name in ("index", "index_put", "index_put_"):
        return any(isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1])
    return name == "repeat_interleave" and kwargs.get("output_size") is None


class HostAccess(TorchDispatchMode):
    """Notes the operations of a thread in a `with` block that read values of a device or bring values to it."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []
        """names, in order"""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        result = func(*args, **kwargs)
        if reads_values(name, args, kwargs) or _crosses(name, (args, kwargs), result):
            self.operations.append(name)
        return result


def _crosses(name: str, arguments: Any, result: Any) -> bool:
    """Whether an operation has tensors on the host and on a device, or makes one of values of Python.

    A number in a tensor on the host counts in copies alone: other operations read it there, or, as attention with its
    seed, return one that nobody reads.
    """
    if name.startswith("lift_fresh"):
        return not _is_host_number(result)
    tensors = [value for value in tree_leaves((arguments, result)) if isinstance(value, Tensor)]
    copies = name in ("copy_", "_to_copy")
    return len({value.device.type for value in tensors if copies or not _is_host_number(value)}) > 1


def _is_host_number(value: Tensor) -> bool:
    return value.ndim == 0 and value.device.type == "cpu"
