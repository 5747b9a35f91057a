"""Forward passes divided among ranks: the residuals of each go to the ranks that own their layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from tegakari.indexer.training.saes.ranks import Ranks, layers_of_ranks
from tegakari.models.classifier import Classifier
from tegakari.models.tokens import Tokenized

BatchResidualSink = Callable[[int, int, Tensor], None]
"""Receives (number of the batch, layer, residual [T, d_model]) of the countable positions."""


class ForwardPasses:
    """Forward passes of a classifier for some layers, of which this rank owns a part.

    Batches are the same for any number of ranks, and so is the order in which a layer's residuals arrive: the SAEs do
    not depend on it.
    """

    def __init__(self, classifier: Classifier, layers: Sequence[int], ranks: Ranks) -> None:
        """Run nothing yet.

        Args:
            classifier: the same on all ranks.
            layers: whose residuals are needed, ascending.
            ranks: all processes.
        """
        self.classifier = classifier
        self.ranks = ranks
        self._layers = layers
        self._owners = layers_of_ranks(layers, ranks.count)

    @property
    def owned(self) -> list[int]:
        """Layers whose residuals this rank receives."""
        return self._owners[self.ranks.rank]

    def run(self, batches: Sequence[Sequence[Tokenized]], on_residual: BatchResidualSink) -> Iterator[range]:
        """Run batches, as many at a time as there are ranks; the residuals of this rank's layers arrive in order.

        Args:
            batches: documents of each forward pass, the same on all ranks; neighbours of similar size, since ranks
                wait for each other.
            on_residual: receives every batch and layer that this rank owns.

        Yields:
            the batches that all ranks have finished.
        """
        for start in range(0, len(batches), self.ranks.count):
            numbers = range(start, min(start + self.ranks.count, len(batches)))
            if self.ranks.count == 1:
                self._run_batch(batches[start], partial(on_residual, start))
            else:
                self._run_and_exchange(numbers, [batches[number] for number in numbers], on_residual)
            yield numbers

    def _run_and_exchange(
        self, numbers: range, batches: Sequence[Sequence[Tokenized]], on_residual: BatchResidualSink
    ) -> None:
        """Run the batch of this rank, if there is one, and receive the residuals of all."""
        rank, count = self.ranks.rank, self.ranks.count
        positions = [sum(len(document.positions) for document in batch) for batch in batches]
        positions += [0] * (count - len(batches))
        places = {layer: place for place, layer in enumerate(self._layers)}  # layers of a rank are neighbours
        sent = torch.empty(
            len(places),
            positions[rank],
            self.classifier.d_model,
            dtype=self.classifier.dtype,
            device=self.classifier.device,
        )
        if rank < len(batches):

            def store(layer: int, residual: Tensor) -> None:
                sent[places[layer]] = residual

            self._run_batch(batches[rank], store)
        rows = [len(self.owned) * batch_positions for batch_positions in positions]
        received = self.ranks.send_rows(
            sent.flatten(0, 1), [len(owned) * positions[rank] for owned in self._owners], rows
        )
        for number, batch_positions, part in zip(numbers, positions, received.split(rows), strict=False):
            for layer, residual in zip(self.owned, part.split(batch_positions), strict=True):
                on_residual(number, layer, residual)

    def _run_batch(self, batch: Sequence[Tokenized], store: Callable[[int, Tensor], None]) -> None:
        self.classifier.run_blocks(self.classifier.batch(batch), store, self._layers)
