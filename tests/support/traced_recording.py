"""A recording on a CPU: the operations that a CUDA graph would replay, traced by torch.fx on real tensors.

As in a graph, tensors that the computation reads beside its inputs, numbers of Python and decisions by them are fixed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx


class TracedRecording:
    """A `Recording`; its class is a `Recorder`."""

    nbytes = 2**20

    def __init__(self, compute: Callable[[Tensor], tuple[Tensor, ...]], inputs: Tensor) -> None:
        self.module = make_fx(compute)(inputs)
        self.replays = 0

    @property
    def operations(self) -> set[str]:
        """Names of the operations of torch."""
        return {node.target.overloadpacket.__name__ for node in self.module.graph.nodes if _is_operation(node.target)}

    def replay(self, inputs: Tensor) -> tuple[Tensor, ...]:
        self.replays += 1
        return tuple(self.module(inputs))


class TracedRecorder:
    """Makes traced recordings and keeps them."""

    def __init__(self) -> None:
        self.recordings: list[TracedRecording] = []

    def __call__(self, compute: Callable[[Tensor], tuple[Tensor, ...]], inputs: Tensor) -> TracedRecording:
        self.recordings.append(TracedRecording(compute, inputs))
        return self.recordings[-1]


def _is_operation(target: object) -> bool:
    return isinstance(target, torch._ops.OpOverload)
