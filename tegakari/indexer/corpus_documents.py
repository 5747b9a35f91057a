"""All documents of a run, by number: where their tokens begin among those of the run, and their shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tegakari.indexer.partial import Partial


class CorpusDocuments(NamedTuple):
    """Documents by number."""

    offsets: np.ndarray
    """int64 [documents + 1]: tokens of all documents before each; a position's row among them is the order of
    (document, position)."""
    shard: np.ndarray
    """int32 [documents]: index of the shard."""


DOCUMENT_BYTES = 40
"""Memory per document: the two arrays while they are made, and those in which the loops of a layer mark documents."""


def corpus_documents(partials: Sequence[Partial]) -> CorpusDocuments:
    """Read the documents of all shards."""
    documents = sum(partial.documents for partial in partials)
    offsets, shard = np.zeros(documents + 1, np.int64), np.empty(documents, np.int32)
    for index, partial in enumerate(partials):
        numbers = partial.document_numbers()
        offsets[numbers + 1] = partial.token_counts()
        shard[numbers] = index
    return CorpusDocuments(np.cumsum(offsets, out=offsets), shard)
