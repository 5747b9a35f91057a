"""Shards: sets of documents that are indexed as one unit and named by the hash of their inputs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tegakari.indexer.priority import probe_priorities

if TYPE_CHECKING:  # processes that merge layers need no models
    from tegakari.models.tokens import Tokenized


class IndexedDocument(NamedTuple):
    """A document of the run, with its tokens."""

    number: int
    """position in the run, from 0; documents are sorted by id."""
    id: str
    label_id: int
    """class index of its label."""
    split: str
    text: str
    tokens: Tokenized


class Shard(NamedTuple):
    """Documents that are indexed as one unit."""

    key: str
    """hash of the documents and of the recipe (classifier, SAEs, settings): equal keys have equal partials."""
    documents: list[IndexedDocument]
    """by (label, number)."""
    probes: list[int]
    """numbers of those documents that are probes, ascending."""

    @property
    def labels(self) -> dict[int, int]:
        """Number of documents of each label of the shard, by label id, ascending."""
        return documents_per_label(self.documents)


PARTIAL_FORMAT = 2
"""Version of the files of a partial: part of a shard's key, so that partials of another version are not read."""

DOCUMENTS = {"cuda": 1024}
"""Documents per shard by kind of device: enough of similar length for batches of 5,000 tokens with 3 % of padding."""
CPU_DOCUMENTS = 128


LABEL_PROBES = 16
"""Probes of each label, if it has as many documents."""
PROBES = 256
"""Fewest probes of all labels together, if the run has as many documents."""


def shard_documents(configured: int, device: str) -> int:
    """Documents per shard: as configured, or by the kind of device."""
    return configured or DOCUMENTS.get(device, CPU_DOCUMENTS)


def documents_per_label(documents: Iterable[IndexedDocument]) -> dict[int, int]:
    """Number of documents of each label that has any, by label id, ascending."""
    return dict(sorted(Counter(document.label_id for document in documents).items()))


def plan_shards(documents: Sequence[IndexedDocument], size: int, recipe: str) -> list[Shard]:
    """Divide documents, ordered by (label, number), into shards of `size`.

    In this order a label is spread over as few shards as possible. A shard has moments for its own labels only, so that
    the shards of a run hold at most (labels + shards) vectors per pooling, whatever the number of labels.

    Args:
        documents: by number.
        size: maximum of documents per shard.
        recipe: from `recipe_of`.
    """
    by_label = sorted(documents, key=lambda document: (document.label_id, document.number))
    chunks = (by_label[start : start + size] for start in range(0, len(by_label), size))
    probes = set(probe_documents(documents))
    return [
        Shard(_key(recipe, chunk), chunk, sorted(probes.intersection(document.number for document in chunk)))
        for chunk in chunks
    ]


def probe_documents(documents: Sequence[IndexedDocument]) -> list[int]:
    """Numbers of the probes, ascending: of each label the documents of smallest hash.

    They are LABEL_PROBES of each label, or more of each until they are PROBES together or all documents.
    """
    numbers = np.array([document.number for document in documents], np.int64)
    labels = np.array([document.label_id for document in documents], np.int64)
    order = np.lexsort((probe_priorities(numbers), labels))
    labels = labels[order]
    rank = np.arange(len(labels)) - np.searchsorted(labels, labels)  # among the documents of its label
    wanted = min(PROBES, len(labels))
    of_label = max(LABEL_PROBES, int(np.partition(rank, wanted - 1)[wanted - 1]) + 1)
    return sorted(numbers[order[rank < of_label]].tolist())


def _key(recipe: str, documents: Sequence[IndexedDocument]) -> str:
    digest = hashlib.sha256(f"{PARTIAL_FORMAT} {recipe} {documents_per_label(documents)}".encode())
    for document in documents:
        digest.update(f"\0{document.number}\0{document.id}\0{document.text}".encode())
    return digest.hexdigest()[:32]
