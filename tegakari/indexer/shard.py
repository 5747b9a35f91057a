"""Shards: sets of documents of one label, indexed as one unit and named by the hash of their inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

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
    """Documents of one label that are indexed as one unit."""

    key: str
    """hash of the documents and of the recipe (classifier, SAEs, settings): equal keys have equal partials."""
    label_id: int
    documents: list[IndexedDocument]


def plan_shards(documents: Sequence[IndexedDocument], shard_documents: int, recipe: str) -> list[Shard]:
    """Divide documents into shards of at most `shard_documents`, label by label, in document order.

    With one label per shard, its label moments are one vector per pooling instead of a matrix of labels.

    Args:
        documents: by number.
        shard_documents: maximum of documents per shard.
        recipe: from `recipe_of`.
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
