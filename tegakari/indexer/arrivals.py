"""The documents and positions of a shard, in the order in which its batches bring them to the device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tegakari.indexer.shard import IndexedDocument
from tegakari.kernels.types import TallyBatch


class Arrivals:
    """Documents and positions of a shard, batch after batch."""

    def __init__(self) -> None:
        self.documents: list[IndexedDocument] = []
        self._document: list[np.ndarray] = []
        self._position: list[np.ndarray] = []
        self._positions = 0

    def add(self, documents: Sequence[IndexedDocument], offsets: Tensor) -> TallyBatch:
        """Add the documents of a batch; returns their place in the tallies of the shard.

        Args:
            documents: of the batch.
            offsets: int64 [D + 1] on the device: where the positions of each document begin.
        """
        positions = [document.tokens.positions for document in documents]
        ends = [0, *np.cumsum([len(of_document) for of_document in positions]).tolist()]
        place = TallyBatch(ends, offsets, len(self.documents), self._positions)
        numbers = np.array([document.number for document in documents], np.int32)
        self.documents.extend(documents)
        self._document.append(np.repeat(numbers, np.diff(ends)))
        self._position.append(np.concatenate(positions).astype(np.int32))
        self._positions += ends[-1]
        for name in ("document", "position", "order", "row", "token"):
            self.__dict__.pop(name, None)
        return place

    def numbers(self, batch: TallyBatch) -> Tensor:
        """Numbers of the documents of a batch, int64 [D] on the device; the host does not wait for it."""
        first, device = batch.document, batch.offsets.device
        documents = self.documents[first : first + len(batch.ends) - 1]
        numbers = torch.tensor([document.number for document in documents])
        return numbers.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else numbers.to(device)

    @cached_property
    def document(self) -> np.ndarray:
        """int32 [T]: document number of each position."""
        return np.concatenate(self._document)

    @cached_property
    def position(self) -> np.ndarray:
        """int32 [T]: token index of each position in its document."""
        return np.concatenate(self._position)

    @cached_property
    def row(self) -> Tensor:
        """int64 [T] on the CPU: row of the document of each position, in `documents`."""
        lengths = torch.tensor([len(document.tokens.positions) for document in self.documents])
        return torch.repeat_interleave(torch.arange(len(lengths)), lengths)

    @cached_property
    def token(self) -> Tensor:
        """`position` as a tensor on the CPU."""
        return torch.from_numpy(self.position)

    @cached_property
    def order(self) -> Tensor:
        """int32 [T] on the CPU: rank of each position by (document number, token index)."""
        by_rank = np.lexsort((self.position, self.document))
        ranks = np.empty(len(by_rank), np.int32)
        ranks[by_rank] = np.arange(len(by_rank), dtype=np.int32)
        return torch.from_numpy(ranks)
