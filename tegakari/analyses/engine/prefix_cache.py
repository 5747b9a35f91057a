"""Least-recently-used cache of unmodified forward passes, for the next analysis of the same documents."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tegakari.analyses.engine.batches import BATCH_TOKENS, batches, tokenized
from tegakari.models.classifier import Classifier
from tegakari.models.rerun.prefix import Prefix, run_prefix
from tegakari.schemas.progress import OnStep, no_step

PREFIX_BYTES = 2**30
"""Default size of the cache of one run's models: residuals, keys and values, and on a GPU recordings of re-runs."""

_Key = tuple[bytes, tuple[int, ...], int | None]


class PrefixRequest(NamedTuple):
    """Texts, and which tensors of their forward pass are needed."""

    texts: Sequence[str]
    layers: tuple[int, ...]
    """layers whose residuals are needed, ascending"""
    keys_above: int | None
    """see `run_prefix`"""

    @property
    def key(self) -> _Key:
        digest = hashlib.sha256()
        for text in self.texts:
            digest.update(len(text).to_bytes(8, "big") + text.encode())
        return digest.digest(), self.layers, self.keys_above


class PrefixBatch(NamedTuple):
    """Forward pass of one batch."""

    members: list[int]
    """numbers of its texts"""
    prefix: Prefix
    truncated: int
    """texts cut at the classifier's max_length"""


class _Entry(NamedTuple):
    batches: list[PrefixBatch]
    prefix_bytes: int

    @property
    def nbytes(self) -> int:
        """Bytes of the passes, and of what was recorded from them since."""
        return self.prefix_bytes + sum(batch.prefix.recordings.nbytes for batch in self.batches)


class PrefixCache:
    """Forward passes by request. A request that alone exceeds `max_bytes` is computed and not cached."""

    def __init__(self, max_bytes: int = PREFIX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()

    @property
    def nbytes(self) -> int:
        return sum(entry.nbytes for entry in self._entries.values())

    def __contains__(self, request: PrefixRequest) -> bool:
        return request.key in self._entries

    def run(
        self,
        classifier: Classifier,
        request: PrefixRequest,
        *,
        batch_tokens: int = BATCH_TOKENS,
        on_step: OnStep = no_step,
    ) -> Iterator[PrefixBatch]:
        """Forward passes over batches of texts of similar length, from the cache or computed.

        Args:
            classifier: of the run.
            request: texts and layers.
            batch_tokens: tokens of a computed batch, padding included.
            on_step: called after each call of the tokenizer and after each block.

        Raises:
            QueryError: a text has no token.
        """
        key = request.key
        if key in self._entries:
            self._entries.move_to_end(key)
            while len(self._entries) > 1 and self.nbytes > self.max_bytes:  # recordings have been added
                self._entries.popitem(last=False)
            yield from self._entries[key].batches
            return
        tokens = tokenized(classifier, request.texts, on_step)
        computed: list[PrefixBatch] = []
        nbytes = 0
        for members, batch in batches(classifier, tokens, batch_tokens):
            prefix = run_prefix(classifier, batch, request.layers, keys_above=request.keys_above, on_step=on_step)
            nbytes += prefix.nbytes
            prefix_batch = PrefixBatch(members, prefix, sum(tokens[member].truncated for member in members))
            if nbytes <= self.max_bytes:
                computed.append(prefix_batch)
            else:
                computed.clear()
            yield prefix_batch
        if nbytes <= self.max_bytes:
            self._entries.pop(key, None)  # another call may have computed the same meanwhile
            while self._entries and self.nbytes + nbytes > self.max_bytes:
                self._entries.popitem(last=False)
            self._entries[key] = _Entry(computed, nbytes)
