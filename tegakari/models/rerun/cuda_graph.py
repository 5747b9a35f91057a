"""A computation on a GPU as a CUDA graph: one launch for all of its operations.

What torch asks of a capture is in https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs. Graphs are replayed
one at a time and their results are copied at once, so that all graphs of a device share one pool of memory, in which
the tensors of one pass may overwrite those of another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from weakref import WeakSet

import torch
from torch import Tensor

_lock = threading.Lock()
"""Held by a capture, of which a process can have one at a time, and by a replay, from its inputs to its results."""


class CudaGraph:
    """The kernels of a computation, and the memory that they read and write; a `Recording`.

    All replays of a device must be issued to one stream, as re-runs are: to the default stream.
    """

    def __init__(self, compute: Callable[[Tensor], tuple[Tensor, ...]], inputs: Tensor) -> None:
        """Run a computation once, and capture it.

        Args:
            compute: operations on the device alone. Tensors that it reads beside its argument must outlive the graph.
            inputs: on a GPU.

        Raises:
            RuntimeError: an operation cannot be captured, or memory is short.
        """
        self._graph = torch.cuda.CUDAGraph()
        with _lock, torch.cuda.device(inputs.device):
            stream, caller = _capture_stream(inputs.device), torch.cuda.current_stream()
            self._inputs = inputs.clone()
            stream.wait_stream(caller)
            with torch.cuda.stream(stream):  # also returns to the caller's stream if a capture fails
                compute(self._inputs)  # outside the capture, libraries may prepare this thread and stream
                self._outputs, self.nbytes = self._capture(compute, stream)
            caller.wait_stream(stream)
            _graphs.add(self)

    def _capture(
        self, compute: Callable[[Tensor], tuple[Tensor, ...]], stream: torch.cuda.Stream
    ) -> tuple[tuple[Tensor, ...], int]:
        """Capture on the current stream. Returns the results, of which a replay writes the values, and added bytes."""
        # A pool can be shared as long as a graph of it is alive, and its memory is reused within one stream.
        sharing = next((graph for graph in _graphs if graph._inputs.device == self._inputs.device), None)
        pool = torch.cuda.graph_pool_handle() if sharing is None else sharing._graph.pool()
        # The workspace of cuBLAS belongs to a stream and may be freed with any graph: each graph needs one in its pool.
        torch._C._cuda_clearCublasWorkspaces()
        try:
            with torch.cuda.graph(
                self._graph,
                pool=pool,
                stream=stream,
                capture_error_mode="thread_local",  # other threads may allocate memory meanwhile
            ):
                reserved = torch.cuda.memory_reserved()
                outputs = compute(self._inputs)
                added = torch.cuda.memory_reserved() - reserved
        except BaseException:
            _end_allocations(self._inputs.device, pool)
            raise
        finally:
            torch._C._cuda_clearCublasWorkspaces()
        return outputs, added

    def replay(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Results for other inputs of the same shape; nothing waits for the GPU."""
        with _lock:
            self._inputs.copy_(inputs)
            self._graph.replay()
            return tuple(output.clone() for output in self._outputs)


_graphs: WeakSet[CudaGraph] = WeakSet()
"""All graphs of the process."""


def _end_allocations(device: torch.device, pool: tuple[int, int]) -> None:
    """End the allocations to the pool of a capture that CUDA has refused.

    torch 2.11 leaves them open, and its allocator then takes the device for capturing for good: it would return no
    memory that it has cached, not even where another allocation needs it.
    """
    with suppress(RuntimeError):  # not open: a later torch, or the capture has ended with an error of Python alone
        torch._C._cuda_endAllocateToPool(device.index, pool)
        torch._C._cuda_releasePool(device.index, pool)


@cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
