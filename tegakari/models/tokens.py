"""Texts to padded token batches that remember which positions count and which characters they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tegakari.schemas.errors import ModelError

_TEXTS_AT_ONCE = 128
"""What the tokenizer says of a text takes a hundred times the memory of what is kept of it."""

BATCH_COST = 0.3
"""Documents of padding that one batch less may cost. Measured: 2 to 5 % of padding in shards of 40 to 128 posts, which
made 6 to 17 batches each; as few batches as the budget allows would be 20 % of padding."""


class Tokenized:
    """One document as the classifier reads it. Thirteen bytes a token: an index holds all documents at once."""

    __slots__ = ("_ids", "_spans", "_special", "truncated")

    def __init__(
        self, input_ids: Sequence[int], spans: Sequence[tuple[int, int]], special: Sequence[bool], truncated: bool
    ) -> None:
        self._ids = np.array(input_ids, np.int32)
        self._spans = np.array(spans, np.int32).reshape(-1, 2)
        self._special = np.array(special, np.bool_)
        self.truncated = truncated

    def __len__(self) -> int:
        """Tokens, special ones included."""
        return len(self._ids)

    @property
    def input_ids(self) -> list[int]:
        return self._ids.tolist()

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Character range [start, end) of each token in the text; pieces of one character all carry that character."""
        return [(start, end) for start, end in self._spans.tolist()]

    @property
    def special(self) -> list[bool]:
        """BOS, EOS and the like: never part of a statistic."""
        return self._special.tolist()

    @property
    def positions(self) -> list[int]:
        """Token indices that statistics are taken over."""
        return np.flatnonzero(~self._special).tolist()


class Batch(NamedTuple):
    """Right-padded documents, and where their countable positions lie once the batch is flattened."""

    input_ids: Tensor
    """int64 [B, S]"""
    attention_mask: Tensor
    """int64 [B, S]; 1 = a token, 0 = padding."""
    positions: Tensor
    """int64 [T]; indices of the non-special positions in the flattened [B * S], document after document."""
    offsets: Tensor
    """int64 [B + 1]; document i owns positions[offsets[i]:offsets[i + 1]]."""

    def to(self, device: torch.device) -> Batch:
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> list[Tokenized]:
    """Tokenize texts, cutting each at its end to `max_length` tokens.

    Text that spells a special token ("<eos>") is read as the characters it consists of, so that no document can
    plant a padding or end token and move the position that the head reads.

    Raises:
        ModelError: the tokenizer is not a fast one, so characters cannot be told from tokens.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"{type(tokenizer).__name__} is not a fast tokenizer and cannot say which characters a token covers",
            field="classifier.base",
            fix="save the model with a tokenizer.json beside it",
        )
    tokenizer.truncation_side = "right"
    return [
        document
        for first in range(0, len(texts), _TEXTS_AT_ONCE)
        for document in _tokenize(tokenizer, texts[first : first + _TEXTS_AT_ONCE], max_length)
    ]


def _tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> list[Tokenized]:
    encoded = tokenizer(
        list(texts),
        split_special_tokens=True,
        truncation=True,
        max_length=max_length,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_attention_mask=False,
    )
    return [
        Tokenized(ids, spans, special, bool(encoding.overflowing))
        for ids, spans, special, encoding in zip(
            encoded["input_ids"],
            encoded["offset_mapping"],
            encoded["special_tokens_mask"],
            encoded.encodings or [],
            strict=True,
        )
    ]


def make_batch(documents: Sequence[Tokenized], pad_id: int) -> Batch:
    """Pad documents on the right to the longest of them."""
    width = max(len(document.input_ids) for document in documents)
    input_ids = torch.full((len(documents), width), pad_id, dtype=torch.int64)
    attention_mask = torch.zeros((len(documents), width), dtype=torch.int64)
    positions: list[int] = []
    offsets = [0]
    for row, document in enumerate(documents):
        length = len(document.input_ids)
        input_ids[row, :length] = torch.tensor(document.input_ids)
        attention_mask[row, :length] = 1
        positions.extend(row * width + position for position in document.positions)
        offsets.append(len(positions))
    return Batch(input_ids, attention_mask, torch.tensor(positions, dtype=torch.int64), torch.tensor(offsets))


def bucketed(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Group documents of like length, so that few tokens are padding and few batches are needed.

    Of all ways to cut the documents, sorted by length, into batches it takes the one with the least padding, where
    another batch counts as much as padding of `BATCH_COST` documents of mean length.

    Args:
        lengths: tokens of each document.
        batch_tokens: budget of a batch, padding included; a longer document is a batch of its own.

    Yields:
        indices into `lengths`; longest first, ties by index, so that the grouping is the same every time.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    start_cost = BATCH_COST * sum(lengths) / max(1, len(lengths))
    least, begin = [0.0], [0]  # of the first `stop` documents: cost of the best cut, and where its last batch begins
    for stop in range(1, len(order) + 1):
        costs = []
        for first in range(stop - 1, -1, -1):
            padded = lengths[order[first]] * (stop - first)
            if costs and padded > batch_tokens:
                break
            costs.append((least[first] + padded + start_cost, first))
        cost, first = min(costs)
        least.append(cost)
        begin.append(first)
    cuts = [len(order)]
    while cuts[-1]:
        cuts.append(begin[cuts[-1]])
    for stop, first in reversed(list(pairwise(cuts))):
        yield order[first:stop]
