"""Order of the residuals in SAE training: fills of a bounded buffer, each shuffled across its documents.

Every epoch divides the documents at random into fills of at most `buffer_positions` positions. A fill is a forward pass
over its documents, a shuffle of all their positions, and one step per batch. All of it depends on (seed, epoch, fill)
alone, so that training resumes at any fill without stored residuals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tegakari.models.classifier import Classifier
from tegakari.models.tokens import Tokenized
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
    """Residuals of one fill for a group of layers, in memory. A fill with the same documents is not computed again."""

    def __init__(
        self, classifier: Classifier, documents: Sequence[Tokenized], layers: Sequence[int], tokens: int
    ) -> None:
        """Create an empty buffer.

        Args:
            classifier: the model whose residuals are stored.
            documents: the training documents.
            layers: layers whose residuals are stored.
            tokens: tokens per forward pass.
        """
        self._classifier = classifier
        self._documents = documents
        self._layers = layers
        self._tokens = tokens
        self._filled: list[int] | None = None
        self._residuals: dict[int, Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Device of the residuals."""
        return self._classifier.device

    def fill(self, fill: Fill, progress: Progress = NoProgress()) -> dict[int, Tensor]:
        """Residuals of the fill's positions, layer -> [P, d_model], in a fixed order that is not shuffled.

        Args:
            fill: of the plan.
            progress: notes the positions of each forward pass; on a processor the passes can take minutes.
        """
        if self._filled == fill.documents:
            return self._residuals
        self._residuals = {}
        documents = [self._documents[index] for index in fill.documents]
        total = sum(len(document.positions) for document in documents)
        residuals = {
            layer: torch.empty(
                total, self._classifier.d_model, dtype=self._classifier.dtype, device=self._classifier.device
            )
            for layer in self._layers
        }
        start = 0
        for _, batch in self._classifier.batches(documents, self._tokens):
            end = start + len(batch.positions)

            def store(layer: int, residual: Tensor, start: int = start, end: int = end) -> None:
                residuals[layer][start:end] = residual

            self._classifier.run(batch, store, self._layers)
            start = end
            progress.note(f"residuals of {end:,} of {total:,} positions")
            progress.advance(0)
        progress.note("")
        self._filled, self._residuals = fill.documents, residuals
        return residuals


def batches_of(fill: Fill, rows: Tensor, seed: int) -> list[Tensor]:
    """Shuffle rows of a fill's residuals, int64 [R], and divide them among its steps; sizes differ by at most 1.

    One copy brings the order of all steps to the rows' device.
    """
    order = np.random.default_rng([seed, fill.epoch, fill.number]).permutation(len(rows))
    shuffled = rows[torch.from_numpy(order).to(rows.device)]
    return list(shuffled.tensor_split(fill.steps))
