"""Order of the residuals in SAE training: fills of a bounded buffer, each shuffled across its documents.

Every epoch divides the documents at random into fills of at most `buffer_positions` positions. A fill is a forward pass
over its documents, a shuffle of all their positions, and one step per batch. All of it depends on (seed, epoch, fill)
alone, so that training resumes at any fill without stored residuals, and on any number of devices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tegakari.indexer.training.saes.forward_passes import ForwardPasses
from tegakari.models.tokens import Tokenized, bucketed
from tegakari.schemas.progress import NoProgress, Progress


class Fill(NamedTuple):
    """Documents whose residuals are in the buffer at the same time."""

    epoch: int
    number: int
    """in its epoch, from 0."""
    documents: list[int]
    """indices of the training documents, ascending."""
    steps: int
    """optimizer steps on the fill's positions."""


def plan_fills(
    positions: Sequence[int], *, epochs: int, buffer_positions: int, batch_size: int, seed: int
) -> list[Fill]:
    """Divide the documents of each epoch into fills.

    Args:
        positions: number of countable positions of each document.
        epochs: passes over all documents.
        buffer_positions: maximum of positions per fill; a longer document is a fill by itself.
        batch_size: positions per step; the steps of a fill have nearly this size.
        seed: seed of the division.
    """
    fills: list[Fill] = []
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(positions))
        groups: list[list[int]] = [[]]
        size = 0
        for document in order.tolist():
            if groups[-1] and size + positions[document] > buffer_positions:
                groups.append([])
                size = 0
            groups[-1].append(document)
            size += positions[document]
        for number, group in enumerate(groups):
            total = sum(positions[document] for document in group)
            fills.append(Fill(epoch, number, sorted(group), max(1, round(total / batch_size))))
    return fills


class ResidualBuffer:
    """Residuals of some fills for the layers that this rank owns, in memory.

    As many fills are computed at a time as there are ranks: their batches divide more evenly among the ranks than those
    of one fill, and since each rank holds a part of the layers, its buffer is not larger than that of one process.
    A fill with the same documents is not computed again.
    """

    def __init__(
        self, passes: ForwardPasses, documents: Sequence[Tokenized], fills: Sequence[Fill], tokens: int
    ) -> None:
        """Create an empty buffer.

        Args:
            passes: forward passes for all layers.
            documents: the training documents.
            fills: the plan.
            tokens: tokens per forward pass.
        """
        self._passes = passes
        self._documents = documents
        self._fills = fills
        self._tokens = tokens
        self._residuals: dict[tuple[int, ...], dict[int, Tensor]] = {}
        """documents of a fill -> layer -> residuals"""

    @property
    def device(self) -> torch.device:
        """Device of the residuals."""
        return self._passes.classifier.device

    def fill(self, fill: Fill, progress: Progress = NoProgress()) -> dict[int, Tensor]:
        """Residuals of the fill's positions, layer -> [P, d_model], in a fixed order that is not shuffled.

        All ranks call it for the same fills, since they compute them together.

        Args:
            fill: of the plan.
            progress: notes the positions of each forward pass; on a processor the passes can take minutes.
        """
        if tuple(fill.documents) not in self._residuals:
            first = self._fills.index(fill)
            upcoming = self._fills[first : first + self._passes.ranks.count]
            self._residuals = {}  # frees the memory first
            self._compute(list(dict.fromkeys(tuple(later.documents) for later in upcoming)), progress)
        return self._residuals[tuple(fill.documents)]

    def positions(self, fill: Fill) -> int:
        """Positions of a fill, in each layer."""
        return sum(len(self._documents[index].positions) for index in fill.documents)

    def _compute(self, fills: Sequence[tuple[int, ...]], progress: Progress) -> None:
        batches = [batch for fill in fills for batch in self._batches(fill)]
        batches.sort(key=lambda batch: -batch.padded_tokens)  # ranks wait for each other after each
        total = sum(batch.end - batch.start for batch in batches)
        classifier = self._passes.classifier
        for fill in fills:
            positions = sum(batch.end - batch.start for batch in batches if batch.fill is fill)
            self._residuals[fill] = {
                layer: torch.empty(positions, classifier.d_model, dtype=classifier.dtype, device=classifier.device)
                for layer in self._passes.owned
            }

        def store(number: int, layer: int, residual: Tensor) -> None:
            batch = batches[number]
            self._residuals[batch.fill][layer][batch.start : batch.end] = residual

        done = 0
        for numbers in self._passes.run([batch.documents for batch in batches], store):
            done += sum(batches[number].end - batches[number].start for number in numbers)
            progress.note(f"residuals of {done:,} of {total:,} positions")
            progress.advance(0)
        progress.note("")

    def _batches(self, fill: tuple[int, ...]) -> Iterator[_FillBatch]:
        documents = [self._documents[index] for index in fill]
        start = 0
        for indices in bucketed([len(document) for document in documents], self._tokens):
            batch = [documents[index] for index in indices]
            end = start + sum(len(document.positions) for document in batch)
            yield _FillBatch(fill, batch, start, end)
            start = end


class _FillBatch(NamedTuple):
    """Documents of one forward pass, and the rows of the fill's residuals that they take."""

    fill: tuple[int, ...]
    documents: list[Tokenized]
    """longest first"""
    start: int
    end: int

    @property
    def padded_tokens(self) -> int:
        return len(self.documents) * len(self.documents[0])


def batches_of(fill: Fill, rows: Tensor, seed: int) -> list[Tensor]:
    """Shuffle rows of a fill's residuals, int64 [R], and divide them among its steps; sizes differ by at most 1.

    One copy brings the order of all steps to the rows' device.
    """
    order = np.random.default_rng([seed, fill.epoch, fill.number]).permutation(len(rows))
    shuffled = rows[torch.from_numpy(order).to(rows.device)]
    return list(shuffled.tensor_split(fill.steps))
