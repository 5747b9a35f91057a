"""Bounds that the workers of an index share through a file, whatever process or node they are in.

Only a hint: any bounds of the same run are true of the corpus, so a lost, late or missing exchange costs candidates and
changes no table. It also gives the bounds of an interrupted index to the one that resumes it.
"""

from __future__ import annotations

import io
import threading
import time
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from tegakari.indexer.layer_tally import Bounds
from tegakari.indexer.worker import Worker
from tegakari.store.disk.durable import write_atomically

SECONDS = 30.0
"""Minimum time between two exchanges of a worker: the file has 12 bytes per feature."""


class SharedBounds:
    """Exchanges the bounds of one worker with a file."""

    def __init__(self, file: Path, worker: Worker) -> None:
        """Narrow the worker's bounds by those of earlier workers.

        Args:
            file: of one recipe, whose runs have equal tables; need not exist.
            worker: before its first shard.
        """
        self._file = file
        self._worker = worker
        self._busy = threading.Lock()
        self._next = time.monotonic() + SECONDS
        if earlier := read_bounds(file):
            worker.exchange(earlier)

    def exchange(self) -> None:
        """Narrow the worker's bounds by those of the file and the reverse, if the last exchange is SECONDS ago."""
        if not self._busy.acquire(blocking=False):
            return
        try:
            if time.monotonic() < self._next:
                return
            before = read_bounds(self._file)
            narrowed = self._worker.exchange(before)
            if not _equal(before, narrowed):
                with suppress(OSError):  # a full disk is reported by what must be written
                    write_bounds(self._file, narrowed)
            self._next = time.monotonic() + SECONDS
        finally:
            self._busy.release()


def read_bounds(file: Path) -> dict[int, Bounds]:
    """Bounds by layer; none if the file is missing or damaged, which its checksums show."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            layers = sorted({int(name.partition(".")[0]) for name in arrays.files})
            return {
                layer: Bounds(*(torch.from_numpy(arrays[f"{layer}.{name}"]) for name in Bounds._fields))
                for layer in layers
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}


def write_bounds(file: Path, bounds: Mapping[int, Bounds]) -> None:
    """Replace the file; of two workers that write at once, one is heard at its next exchange."""
    arrays = {
        f"{layer}.{name}": array.numpy() for layer, both in bounds.items() for name, array in both._asdict().items()
    }
    content = io.BytesIO()
    np.savez(content, **arrays)  # pyright: ignore[reportArgumentType]  # the stub takes them for `allow_pickle`
    write_atomically(file, content.getvalue())


def _equal(first: Mapping[int, Bounds], second: Mapping[int, Bounds]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(mine, other) for layer in first for mine, other in zip(first[layer], second[layer], strict=True)
    )
