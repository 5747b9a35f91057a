"""Which documents a corpus takes: a draw that the order of the rows does not change."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from tegakari.indexer.corpus.documents import Candidate
from tegakari.indexer.corpus.reasons import Reason, Tally
from tegakari.schemas.config import CorpusConfig
from tegakari.schemas.corpus import Split

_MIN_DOCUMENTS = 2
"""documents of a label below which nothing can be said about it."""


class Drawn(NamedTuple):
    """A document of the corpus, unless its text speaks against it."""

    id: str
    label: str
    split: Split
    text: str
    cut: bool
    """the text was longer than corpus.max_characters."""


class Draw:
    """Keeps the documents of each label with the smallest hashes of seed and id, and no more than are wanted."""

    def __init__(self, config: CorpusConfig, *, dropped: Tally, changed: Tally) -> None:
        self._seed = config.seed
        self._wanted: dict[Split | None, int] = {
            "train": config.train_per_label,
            "eval": config.eval_per_label,
            None: config.train_per_label + config.eval_per_label,
        }
        self._dropped = dropped
        self._changed = changed
        self._offered: Counter[str] = Counter()
        # Heaps whose first entry is the largest hash: the next to go.
        self._pools: defaultdict[tuple[str, Split | None], list[tuple[int, Candidate]]] = defaultdict(list)

    def offer(self, candidate: Candidate) -> None:
        """Take a candidate; of a full pool, the one with the largest hash goes and is counted."""
        self._offered[candidate.label] += 1
        pool = self._pools[candidate.label, candidate.split]
        entry = (-self._hash(candidate.id), candidate)
        if len(pool) < self._wanted[candidate.split]:
            heapq.heappush(pool, entry)
        else:
            _, loser = heapq.heappushpop(pool, entry)
            self._dropped.add(Reason.NOT_DRAWN, loser.id)

    def documents(self) -> list[Drawn]:
        """What was drawn. Labels of a single document are dropped and counted."""
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
        """The first ones train, the rest evaluate; too few are divided in the wanted ratio, at least one each."""
        train, wanted = self._wanted["train"], self._wanted[None]
        if len(ordered) < wanted:
            train = min(max(round(len(ordered) * train / wanted), 1), len(ordered) - 1)
            self._changed.add(Reason.FEWER_THAN_WANTED, label, len(ordered))
        return [_drawn(candidate, "train" if rank < train else "eval") for rank, candidate in enumerate(ordered)]

    def _hash(self, id_: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{self._seed}\0{id_}".encode()).digest())


def _drawn(candidate: Candidate, split: Split) -> Drawn:
    return Drawn(candidate.id, candidate.label, split, candidate.text, candidate.cut)


def without_ambiguous(documents: Sequence[Drawn], dropped: Tally) -> list[Drawn]:
    """Drop evaluation documents whose text has another label as well, or was trained on; then labels left with one."""
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for document in documents:
        labels[document.text].add(document.label)
    trained = {(document.label, document.text) for document in documents if document.split == "train"}
    kept: list[Drawn] = []
    for document in documents:
        if document.split == "train":
            kept.append(document)
        elif len(labels[document.text]) > 1:
            dropped.add(Reason.OTHER_LABEL, document.id)
        elif (document.label, document.text) in trained:
            dropped.add(Reason.LEAKED, document.id)
        else:
            kept.append(document)
    left = Counter(document.label for document in kept)
    for document in kept:
        if left[document.label] < _MIN_DOCUMENTS:
            dropped.add(Reason.SMALL_LABEL, document.label)
    return [document for document in kept if left[document.label] >= _MIN_DOCUMENTS]
