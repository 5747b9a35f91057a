"""The order in which SAEs see residuals: fills of a bounded buffer, each shuffled across its documents.

Every epoch deals the documents anew into fills of at most `buffer_positions` positions. One fill is a forward pass over
its documents, a shuffle of all their positions, and as many steps as it has batches. Everything follows from
(seed, epoch, fill), so training resumes at any fill without having kept anything of the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tegakari.models.classifier import Classifier
from tegakari.models.tokens import Tokenized


class Fill(NamedTuple):
    """Documents whose residuals are in memory together."""

    epoch: int
    number: int
    documents: list[int]
    """indices of the training documents, ascending."""
    steps: int


def plan_fills(
    positions: Sequence[int], *, epochs: int, buffer_positions: int, batch_size: int, seed: int
) -> list[Fill]:
    """Deal documents into fills, epoch by epoch.

    Args:
        positions: non-special positions of each document.
        epochs: passes over all documents.
        buffer_positions: the most positions a fill holds; a longer document is a fill of its own.
        batch_size: positions a step; a fill is cut into steps of nearly this size.
        seed: of the deal.
    """
    fills: list[Fill] = []
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(positions))
        groups: list[list[int]] = [[]]
        held = 0
        for document in order.tolist():
            if groups[-1] and held + positions[document] > buffer_positions:
                groups.append([])
                held = 0
            groups[-1].append(document)
            held += positions[document]
        for number, group in enumerate(groups):
            total = sum(positions[document] for document in group)
            fills.append(Fill(epoch, number, sorted(group), max(1, round(total / batch_size))))
    return fills


class ResidualBuffer:
    """Residuals of one fill for a group of layers. A fill with the documents of the one before is not run again."""

    def __init__(
        self, classifier: Classifier, documents: Sequence[Tokenized], layers: Sequence[int], tokens: int
    ) -> None:
        """Hold nothing yet.

        Args:
            classifier: whose residuals.
            documents: the training documents.
            layers: the layers to keep.
            tokens: tokens a forward pass.
        """
        self._classifier = classifier
        self._documents = documents
        self._layers = layers
        self._tokens = tokens
        self._held: list[int] | None = None
        self._residuals: dict[int, Tensor] = {}

    def fill(self, fill: Fill) -> dict[int, Tensor]:
        """Residuals of the fill's positions, layer -> [P, d_model], in a fixed order that is not shuffled."""
        if self._held == fill.documents:
            return self._residuals
        self._residuals = {}
        documents = [self._documents[index] for index in fill.documents]
        total = sum(len(document.positions) for document in documents)
        kept = {
            layer: torch.empty(
                total, self._classifier.d_model, dtype=self._classifier.dtype, device=self._classifier.device
            )
            for layer in self._layers
        }
        start = 0
        for _, batch in self._classifier.batches(documents, self._tokens):
            end = start + len(batch.positions)

            def keep(layer: int, residual: Tensor, start: int = start, end: int = end) -> None:
                kept[layer][start:end] = residual

            self._classifier.run(batch, keep, self._layers)
            start = end
        self._held, self._residuals = fill.documents, kept
        return kept


def batches_of(fill: Fill, positions: int, seed: int) -> list[np.ndarray]:
    """Shuffle the positions of a fill and cut them into its steps; indices into the fill's residuals."""
    order = np.random.default_rng([seed, fill.epoch, fill.number]).permutation(positions)
    return np.array_split(order, fill.steps)
