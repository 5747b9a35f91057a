"""Recordings of a prefix's passes: what was computed once is replayed with other features, without Python.

On a GPU a warm knockout is about 170 small operations, which Python takes ten times as long to issue as the card to
run. A recording issues them as one. It holds for one shape of inputs and for the memory that it was made with: the
prefix's tensors, whose recordings therefore end with it, and the weights of the classifier and the SAEs.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from tegakari.models.rerun.host_access import HostAccess
from tegakari.schemas.progress import OnStep, no_step

RECORDINGS_PER_PREFIX = 16
"""Shapes of passes that a prefix remembers; the least recently used one is forgotten."""

log = logging.getLogger(__name__)


class Recording(Protocol):
    """Operations of a computation, which run again on other inputs of the same shape."""

    @property
    def nbytes(self) -> int:
        """Memory of the device that it holds."""
        ...

    def replay(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Results for inputs, in memory of their own."""
        ...


Recorder = Callable[[Callable[[Tensor], tuple[Tensor, ...]], Tensor], Recording]
"""Records a computation on inputs of one shape; it may raise anything."""

Computation = Callable[[Tensor, OnStep], tuple[Tensor, ...]]
"""From inputs, and a function that is called between its steps, to results."""


class _Pass(NamedTuple):
    """A computed pass."""

    inputs: Tensor
    results: tuple[Tensor, ...]


@dataclass
class _Entry:
    """What is remembered of the passes of one shape."""

    models: tuple[object, ...]
    """whose memory a recording reads; kept, so that no other object has their ids"""
    first: _Pass | None = None
    """the first pass, until there is a recording"""
    recording: Recording | None = None


class Recordings:
    """Recordings of the passes of one prefix.

    The first pass of a shape is computed, since most requests come once. The second is computed and recorded, and both
    are replayed: if the replays have the same results to the last bit, later passes are replayed. If not, or if a
    recording fails, a warning is logged and all passes of the prefix are computed from then on.
    """

    def __init__(self, record: Recorder | None = None) -> None:
        """Start without recordings.

        Args:
            record: makes recordings; None: all passes are computed.
        """
        self._record = record
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    @property
    def active(self) -> bool:
        """Whether passes may be recorded; if not, all are computed."""
        return self._record is not None

    @property
    def nbytes(self) -> int:
        """Memory of the device that the recordings hold."""
        return sum(entry.recording.nbytes for entry in self._entries.values() if entry.recording is not None)

    def run(
        self, compute: Computation, inputs: Tensor, *, shape: Hashable, models: tuple[object, ...], on_step: OnStep
    ) -> tuple[Tensor, ...]:
        """Results of a pass, computed or replayed, with the same bits.

        Args:
            compute: the pass; its operations depend on nothing but `shape`, the prefix and `models`.
            inputs: on the device.
            shape: in which passes of the prefix can differ, beside `models`.
            models: whose memory the pass reads.
            on_step: called between steps of a computed pass, and after a replayed one.
        """
        record = self._record
        if record is None:
            return compute(inputs, on_step)
        key = (shape, *map(id, models))
        entry = self._entries.setdefault(key, _Entry(models))
        self._entries.move_to_end(key)
        if len(self._entries) > RECORDINGS_PER_PREFIX:
            self._entries.popitem(last=False)
        if entry.recording is not None:
            results = entry.recording.replay(inputs)
            on_step()
            return results
        first = entry.first
        if first is None:
            entry.first = _Pass(inputs, compute(inputs, on_step))
            return entry.first.results
        with HostAccess() as access:
            second = _Pass(inputs, compute(inputs, on_step))
        if access.operations:
            self._give_up(f"{access.operations[0]} needs the host")
            return second.results
        try:
            recording = record(lambda values: compute(values, no_step), inputs)
            same = all(_has_results(recording, computed) for computed in (first, second))
        except Exception as error:  # noqa: BLE001 - whatever fails, the results are there
            self._give_up(f"{type(error).__name__}: {error}")
        else:
            if same:
                entry.first, entry.recording = None, recording
            else:
                self._give_up("a replay has other results")
        return second.results

    def _give_up(self, reason: str) -> None:
        self._record = None
        self._entries.clear()
        _warn(reason)


def _has_results(recording: Recording, computed: _Pass) -> bool:
    """Whether a replay of a pass has its results, to the last bit."""
    replayed = recording.replay(computed.inputs)
    return all(torch.equal(*pair) for pair in zip(replayed, computed.results, strict=True))


@lru_cache(maxsize=16)
def _warn(reason: str) -> None:
    """Log a warning, once per reason and process."""
    log.warning("re-runs are not recorded: %s", reason)
