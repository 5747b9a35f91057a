"""Ordinary passes over documents, kept for the next question about the same documents."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tegakari.analyses.engine.batches import batches, tokenized
from tegakari.models.classifier import Classifier
from tegakari.models.rerun.prefix import Prefix, run_prefix

PREFIX_BYTES = 2**30
"""Residuals, keys and values that are kept for one run's models; those asked for last."""


class Passes(NamedTuple):
    """Which passes are wanted."""

    texts: Sequence[str]
    layers: tuple[int, ...]
    """whose residuals are kept, ascending."""
    keys_above: int | None
    """see `run_prefix`"""

    @property
    def key(self) -> tuple[bytes, tuple[int, ...], int | None]:
        digest = hashlib.sha256()
        for text in self.texts:
            digest.update(len(text).to_bytes(8, "big") + text.encode())
        return digest.digest(), self.layers, self.keys_above


class Pass(NamedTuple):
    """One batch."""

    members: list[int]
    """numbers of its documents"""
    prefix: Prefix
    truncated: int
    """documents whose end was cut"""


class _Kept(NamedTuple):
    passes: list[Pass]
    nbytes: int


class Prefixes:
    """Least recently used passes are forgotten first; more than `most_bytes` of one question are never kept."""

    def __init__(self, most_bytes: int = PREFIX_BYTES) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[tuple[bytes, tuple[int, ...], int | None], _Kept] = OrderedDict()

    @property
    def nbytes(self) -> int:
        return sum(kept.nbytes for kept in self._kept.values())

    def has(self, wanted: Passes) -> bool:
        return wanted.key in self._kept

    def run(self, classifier: Classifier, wanted: Passes) -> Iterator[Pass]:
        """Passes over batches of documents of about the same length.

        Raises:
            QueryError: a text without a token.
        """
        key = wanted.key
        if key in self._kept:
            self._kept.move_to_end(key)
            yield from self._kept[key].passes
            return
        tokens = tokenized(classifier, wanted.texts)
        passes: list[Pass] = []
        nbytes = 0
        for members, batch in batches(classifier, tokens):
            prefix = run_prefix(classifier, batch, wanted.layers, keys_above=wanted.keys_above)
            nbytes += prefix.nbytes
            done = Pass(members, prefix, sum(tokens[member].truncated for member in members))
            if nbytes <= self.most_bytes:
                passes.append(done)
            else:
                passes.clear()
            yield done
        if nbytes <= self.most_bytes:
            while self._kept and self.nbytes + nbytes > self.most_bytes:
                self._kept.popitem(last=False)
            self._kept[key] = _Kept(passes, nbytes)
