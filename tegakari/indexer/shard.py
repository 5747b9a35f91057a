"""The unit of work: a deterministic set of documents of one label, named by the hash of all that decides its result."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from tegakari.models.tokens import Tokenized


class IndexedDocument(NamedTuple):
    """A document of the run."""

    number: int
    """its number in the run: documents are counted in the order of their ids."""
    id: str
    label_id: int
    split: str
    text: str
    tokens: Tokenized


class Shard(NamedTuple):
    """Documents of one label that are indexed together."""

    key: str
    """hash of the documents and of the recipe (classifier, SAEs, settings): equal keys, equal partials."""
    label_id: int
    documents: list[IndexedDocument]


def plan_shards(documents: Sequence[IndexedDocument], shard_documents: int, recipe: str) -> list[Shard]:
    """Cut documents into shards of at most `shard_documents`, label by label, each in document order.

    One label a shard: its label moments are then one vector a pooling, not a matrix of labels.
    """
    by_label: dict[int, list[IndexedDocument]] = {}
    for document in documents:
        by_label.setdefault(document.label_id, []).append(document)
    shards = []
    for label_id, members in sorted(by_label.items()):
        for start in range(0, len(members), shard_documents):
            chunk = members[start : start + shard_documents]
            shards.append(Shard(_key(recipe, label_id, chunk), label_id, chunk))
    return shards


def _key(recipe: str, label_id: int, documents: Sequence[IndexedDocument]) -> str:
    digest = hashlib.sha256(f"{recipe} {label_id}".encode())
    for document in documents:
        digest.update(f"\0{document.number}\0{document.id}\0{document.text}".encode())
    return digest.hexdigest()[:32]
