"""Random draw of the documents of a corpus, independent of the order of the rows."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

from tegakari.indexer.corpus.documents import Candidate
from tegakari.indexer.corpus.reasons import Reason, Tally
from tegakari.schemas.config import CorpusConfig
from tegakari.schemas.corpus import Split

_MIN_DOCUMENTS = 2
"""Minimum documents per label."""


class Drawn(NamedTuple):
    """A drawn document; `without_ambiguous` may still drop it."""

    id: str
    label: str
    split: Split
    text: str
    cut: bool
    """whether the text was longer than corpus.max_characters."""


class Draw:
    """Draws, for each label, the configured number of documents with the smallest hashes of seed and id."""

    def __init__(self, config: CorpusConfig, *, dropped: Tally, changed: Tally) -> None:
        self._seed = config.seed
        self._sizes: dict[Split | None, int] = {
            "train": config.train_per_label,
            "eval": config.eval_per_label,
            None: config.train_per_label + config.eval_per_label,
        }
        self._dropped = dropped
        self._changed = changed
        self._offered: Counter[str] = Counter()
        # Heaps whose first entry has the largest hash and is dropped next.
        self._pools: defaultdict[tuple[str, Split | None], list[tuple[int, Candidate]]] = defaultdict(list)

    def offer(self, candidate: Candidate) -> None:
        """Add a candidate; of a full pool, the candidate with the largest hash is dropped and counted."""
        self._offered[candidate.label] += 1
        pool = self._pools[candidate.label, candidate.split]
        entry = (-self._hash(candidate.id), candidate)
        if len(pool) < self._sizes[candidate.split]:
            heapq.heappush(pool, entry)
        else:
            _, dropped = heapq.heappushpop(pool, entry)
            self._dropped.add(Reason.NOT_DRAWN, dropped.id)

    @property
    def labels(self) -> Collection[str]:
        """Labels of all candidates."""
        return self._offered.keys()

    def documents(self) -> list[Drawn]:
        """The drawn documents. Labels with a single document are dropped and counted."""
        drawn: list[Drawn] = []
        for (label, split), pool in sorted(self._pools.items(), key=lambda item: (item[0][0], item[0][1] or "")):
            ordered = [candidate for _, candidate in sorted(pool, reverse=True)]
            if self._offered[label] < _MIN_DOCUMENTS:
                self._dropped.add(Reason.SMALL_LABEL, label, len(ordered))
            elif split is None:
                drawn += self._divide(label, ordered)
            else:
                drawn += [_drawn(candidate, split) for candidate in ordered]
        return drawn

    def _divide(self, label: str, ordered: Sequence[Candidate]) -> list[Drawn]:
        """Divide candidates into splits, training first; if too few, in the configured ratio with at least one each."""
        train, total = self._sizes["train"], self._sizes[None]
        if len(ordered) < total:
            train = min(max(round(len(ordered) * train / total), 1), len(ordered) - 1)
            self._changed.add(Reason.FEWER_THAN_WANTED, label, len(ordered))
        return [_drawn(candidate, "train" if rank < train else "eval") for rank, candidate in enumerate(ordered)]

    def _hash(self, id_: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{self._seed}\0{id_}".encode()).digest())


def _drawn(candidate: Candidate, split: Split) -> Drawn:
    return Drawn(candidate.id, candidate.label, split, candidate.text, candidate.cut)


def without_ambiguous(documents: Sequence[Drawn], dropped: Tally) -> list[Drawn]:
    """Drop evaluation documents whose text also has another label or a training copy, then labels with one document."""
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for document in documents:
        labels[document.text].add(document.label)
    trained = {(document.label, document.text) for document in documents if document.split == "train"}
    unambiguous: list[Drawn] = []
    for document in documents:
        if document.split == "train":
            unambiguous.append(document)
        elif len(labels[document.text]) > 1:
            dropped.add(Reason.OTHER_LABEL, document.id)
        elif (document.label, document.text) in trained:
            dropped.add(Reason.LEAKED, document.id)
        else:
            unambiguous.append(document)
    counts = Counter(document.label for document in unambiguous)
    for document in unambiguous:
        if counts[document.label] < _MIN_DOCUMENTS:
            dropped.add(Reason.SMALL_LABEL, document.label)
    return [document for document in unambiguous if counts[document.label] >= _MIN_DOCUMENTS]
