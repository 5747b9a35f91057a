"""Predictions of the classifier for all documents, from the partials of all shards, in the order of documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tegakari.indexer.partial import Partial

EMBEDDING_BYTES = 64 * 10**6
"""Embeddings that are in memory at once."""


class Predictions:
    """Numbers of all documents in memory; embeddings are read in the order of documents."""

    def __init__(self, partials: Sequence[Partial]) -> None:
        """Read the numbers.

        Args:
            partials: of all shards.
        """
        self._partials = partials
        documents = sum(partial.documents for partial in partials)
        self.predicted_id = np.empty(documents, np.int32)
        """int32 [documents]"""
        self.label_logit = np.empty(documents, np.float32)
        """float32 [documents]"""
        self.predicted_logit = np.empty(documents, np.float32)
        """float32 [documents]"""
        for partial in partials:
            part = partial.classes()
            for name in ("predicted_id", "label_logit", "predicted_logit"):
                getattr(self, name)[part.document] = getattr(part, name)

    def embeddings(self, at_once: int = EMBEDDING_BYTES) -> Iterator[np.ndarray]:
        """Embeddings of consecutive documents, float32 [n, d_model].

        Args:
            at_once: bytes per array.
        """
        documents, width = len(self.predicted_id), self._partials[0].embeddings(0, 0).shape[1]
        step = max(1, at_once // (4 * width))
        for start in range(0, documents, step):
            embeddings = np.empty((min(step, documents - start), width), np.float32)
            for partial in self._partials:
                numbers = partial.document_numbers() - start
                (rows,) = np.nonzero((numbers >= 0) & (numbers < len(embeddings)))
                if len(rows):
                    first, last = int(rows[0]), int(rows[-1])
                    embeddings[numbers[rows]] = partial.embeddings(first, last + 1)[rows - first]
            yield embeddings
