"""The documents and positions of a shard, in the order in which its batches bring them to the device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tegakari.indexer.shard import IndexedDocument
from tegakari.kernels.types import TallyBatch


class Places(NamedTuple):
    """Where positions are, on the device of a tally; T positions of a shard, or of a batch."""

    rank: Tensor
    """int32 [T]: order of the positions by document and token."""
    row: Tensor
    """int64 [T]: row of the document of each position."""
    token: Tensor
    """int32 [T]: token index in the document."""


class Arrival(NamedTuple):
    """A batch of documents."""

    batch: TallyBatch
    numbers: Tensor
    """int64 [D] on the device: numbers of the documents"""
    token: np.ndarray
    """int32 [T]: token index in the document of each position"""

    def places(self) -> Places:
        """Places of the positions of the batch, on a CPU."""
        token = torch.from_numpy(self.token)
        return Places(torch.arange(len(token), dtype=torch.int32), self.batch.owner, token)


class Arrivals:
    """Documents and positions of a shard, batch after batch."""

    def __init__(self) -> None:
        self.documents: list[IndexedDocument] = []
        self._document: list[np.ndarray] = []
        self._position: list[np.ndarray] = []
        self._positions = 0
        self._places: Places | None = None

    def add(self, documents: Sequence[IndexedDocument], offsets: Tensor) -> Arrival:
        """Add the documents of a batch; returns their place in the tallies of the shard.

        Args:
            documents: of the batch.
            offsets: int64 [D + 1] on the device: where the positions of each document begin.
        """
        positions = [document.tokens.positions for document in documents]
        ends = [0, *np.cumsum([len(of_document) for of_document in positions]).tolist()]
        apart = any(len(of_document) > 1 and of_document[-1] < of_document[-2] for of_document in positions)
        batch = TallyBatch(ends, offsets, len(self.documents), self._positions, apart=apart)
        numbers = np.array([document.number for document in documents], np.int32)
        self.documents.extend(documents)
        self._document.append(np.repeat(numbers, np.diff(ends)))
        self._position.append(np.concatenate(positions).astype(np.int32))
        self._positions += ends[-1]
        for name in ("document", "position", "order"):
            self.__dict__.pop(name, None)
        self._places = None
        on_cpu, device = torch.from_numpy(numbers.astype(np.int64)), offsets.device
        on_device = on_cpu.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else on_cpu.to(device)
        return Arrival(batch, on_device, self._position[-1])

    def places(self, device: torch.device) -> Places:
        """Places of all positions so far; the same for all layers, which are on one device."""
        if self._places is not None:
            return self._places
        lengths = torch.tensor([len(document.tokens.positions) for document in self.documents])
        row = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        self._places = Places(self.order.to(device), row.to(device), torch.from_numpy(self.position).to(device))
        return self._places

    @cached_property
    def document(self) -> np.ndarray:
        """int32 [T]: document number of each position."""
        return np.concatenate(self._document)

    @cached_property
    def position(self) -> np.ndarray:
        """int32 [T]: token index of each position in its document."""
        return np.concatenate(self._position)

    @cached_property
    def order(self) -> Tensor:
        """int32 [T] on the CPU: rank of each position by (document number, token index)."""
        by_rank = np.lexsort((self.position, self.document))
        ranks = np.empty(len(by_rank), np.int32)
        ranks[by_rank] = np.arange(len(by_rank), dtype=np.int32)
        return torch.from_numpy(ranks)
