"""Room for the candidates of a shard on a GPU, whose numbers reach the host late, so that the GPU never waits for it.

Until bounds have narrowed, most active entries are candidates, and later batches have more of them than the shard will
keep. So candidates are dropped while the batches of a shard run, where a buffer fills: the more room, the
less often.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tegakari.indexer.arrivals import Arrivals
from tegakari.indexer.layer_tally import LayerTally
from tegakari.kernels.types import CandidateBuffer, CandidateOverflowError
from tegakari.store.contexts import POOL_DOCUMENTS

ENTRIES_PER_CENTRE = 6
"""Entries in the windows of a strongest position or a drawn document, of which there is one or a few per feature."""


ENTRY_BYTES = 12
"""Of a candidate: feature, position and activation."""


def capacity_of(positions: Sequence[int], d_sae: int, top_tokens: int, *, contexts: bool, memory: int) -> int:
    """Candidates of a layer that a GPU has room for.

    At least twice what stays, and a quarter of the entries of a batch; more, if there is memory, up to an eighth of the
    entries of the shard, of which 2 to 6 % are active.

    Args:
        positions: of each batch of the shard.
        d_sae: number of features.
        top_tokens: positions per feature.
        contexts: whether the windows of the strongest positions and of drawn documents stay.
        memory: bytes, from `memory_of`.
    """
    stay = ENTRIES_PER_CENTRE * (top_tokens + POOL_DOCUMENTS) if contexts else top_tokens
    least = max(2**16, 2 * stay * d_sae, max(positions) * d_sae // 4)
    return max(least, min(memory // ENTRY_BYTES, sum(positions) * d_sae // 8))


def memory_of(device: torch.device, layers: int) -> int:
    """Bytes for the candidates of one layer: an eighth of a GPU for those of a shard, of which it holds two at once."""
    return torch.cuda.get_device_properties(device).total_memory // 8 // layers if device.type == "cuda" else 0


class _Numbers(NamedTuple):
    """Candidates of each layer after a batch."""

    on_cpu: Tensor
    """int64 [layers]; on a GPU, valid when the copy has ended"""
    copied: torch.cuda.Event | None


class CandidateRoom:
    """Drops candidates of the layers whose buffers fill."""

    def __init__(self, layers: Collection[LayerTally], arrivals: Arrivals, *, every_batch: bool) -> None:
        """Watch the buffers of a shard.

        Args:
            layers: of the shard, on a GPU.
            arrivals: of the shard.
            every_batch: wait for each batch, where most of its entries are candidates: before bounds have narrowed.
        """
        self._layers = layers
        self._arrivals = arrivals
        self._behind = 0 if every_batch else 1
        # What is left takes the entries of the next batch, and of the one whose numbers have not been read.
        self._full = 3 / 4 if every_batch else 1 / 2
        self._queued: deque[_Numbers] = deque()

    def make(self) -> None:
        """Make room after a batch, by the numbers before it: the host waits while the GPU runs the batch itself.

        Raises:
            CandidateOverflowError: too little room.
        """
        self._queue()
        if len(self._queued) <= self._behind:
            return
        while len(self._queued) > self._behind + 1:
            self._queued.popleft()
        numbers, copied = self._queued.popleft()
        if copied is not None:
            copied.synchronize()
        full = [
            layer
            for layer, number in zip(self._layers, numbers.tolist(), strict=True)
            if number > self._full * _buffer(layer).capacity
        ]
        for layer in full:
            layer.prune(self._arrivals)
            if layer.kept > _buffer(layer).capacity / 2:
                raise CandidateOverflowError
        if full:  # numbers from before are of no use
            self._queued.clear()
            self._queue()

    def prune(self) -> None:
        """Drop candidates of all layers; the host waits for the GPU.

        Raises:
            CandidateOverflowError: too little room.
        """
        for layer in self._layers:
            layer.prune(self._arrivals)

    def _queue(self) -> None:
        numbers = torch.stack([_buffer(layer).number for layer in self._layers])
        on_cpu = numbers.to("cpu", non_blocking=True)  # to pinned memory
        copied = None
        if numbers.is_cuda:
            copied = torch.cuda.Event(blocking=True)  # waits without a core, which other threads have work for
            copied.record(torch.cuda.current_stream(numbers.device))
        self._queued.append(_Numbers(on_cpu, copied))


def _buffer(layer: LayerTally) -> CandidateBuffer:
    assert isinstance(layer.tally.candidates, CandidateBuffer)
    return layer.tally.candidates
