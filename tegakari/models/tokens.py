"""Tokenized documents and padded batches of them, with the positions that count and the characters of each token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tegakari.models.text_backend import configure, text_backend
from tegakari.schemas.progress import OnStep, no_step

_TEXTS_PER_CALL = 128
"""Texts per call of the tokenizer, whose result takes a hundred times the memory of a `Tokenized`."""

_CHARACTERS_PER_CALL = 32_768
"""Characters per call of the tokenizer, which takes up to 5 microseconds per character."""

CHARACTERS_PER_TOKEN = 64
"""A text is cut at this many characters per token of `max_length` before it is tokenized.

A token has 2 to 5 characters, so that the tokens before `max_length` are those of the whole text, unless the text
begins with thousands of spaces or the like.
"""

BATCH_COST = {"cpu": 0.3, "cuda": 1.0}
"""Padding, in documents of mean length, that is worth one batch less, by kind of device. Measured on a CPU: 2 to 5 % of
padding in shards of 40 to 128 posts, of 6 to 17 batches each; the fewest batches that the budget allows would be 20 %
of padding. On an H200 a batch of gemma-2-2b takes 6 to 12 ms beside 13 microseconds per token, which are 3 to 6
documents of 164 tokens; with 1, padding stays below 3 % in shards of 1,024."""


Head = Literal["last", "first", "all"]
"""Positions that a classification head reads: the last token that is not padding, the first, or several."""


class Tokenized:
    """One document as the classifier reads it. 13 bytes per token, since an index holds all documents in memory."""

    __slots__ = ("_ids", "_spans", "_special", "head", "truncated")

    def __init__(
        self,
        input_ids: Sequence[int],
        spans: Sequence[tuple[int, int]],
        special: Sequence[bool] | Sequence[int],
        truncated: bool,
        head: int | None = None,
    ) -> None:
        """Tokens of a document.

        Args:
            input_ids: of the tokens.
            spans: characters [start, end) of each token in the text.
            special: per token, whether it is BOS, EOS or the like.
            truncated: whether the text was cut.
            head: index of the token that the classification head reads; None: it reads several, or is not known.
        """
        self.head = head
        self._ids = np.array(input_ids, np.int32)
        self._spans = np.array(spans, np.int32).reshape(-1, 2)
        self._special = np.array(special, np.bool_)
        self.truncated = truncated

    def __len__(self) -> int:
        """Number of tokens, special ones included."""
        return len(self._ids)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids, int32 [T], and spans, int32 [T, 2]."""
        return self._ids, self._spans

    @property
    def input_ids(self) -> list[int]:
        return self._ids.tolist()

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Character range [start, end) of each token in the text; pieces of one character all carry that character."""
        return [(start, end) for start, end in self._spans.tolist()]

    @property
    def special(self) -> list[bool]:
        """Per token, whether it is BOS, EOS or the like."""
        return self._special.tolist()

    @property
    def positions(self) -> list[int]:
        """Indices of the countable tokens: those that are not special, and the one that the head reads, which is last.

        A document without a token that is not special has none.
        """
        positions = np.flatnonzero(~self._special).tolist()
        if self.head is None or not positions:
            return positions
        return [*(position for position in positions if position != self.head), self.head]


class Batch(NamedTuple):
    """Right-padded documents, and the indices of their countable positions in the flattened batch."""

    input_ids: Tensor
    """int64 [B, S]"""
    attention_mask: Tensor
    """int64 [B, S]; 1 = a token, 0 = padding."""
    positions: Tensor
    """int64 [T]; indices of the countable positions in the flattened [B * S], document after document; those of a
    document ascend, except that the position that the head reads is the last."""
    offsets: Tensor
    """int64 [B + 1]; document i owns positions[offsets[i]:offsets[i + 1]]."""

    def to(self, device: torch.device) -> Batch:
        """Copy the batch to a device. From pinned memory, since a GPU's queue would have to run empty for any other."""
        if device.type == "cuda":
            return Batch(*(tensor.pin_memory().to(device, non_blocking=True) for tensor in self))
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


def head_index(input_ids: Sequence[int], head: Head, pad_id: int) -> int | None:
    """Index of the token that a head reads, None if it reads several.

    A decoder's head reads the last token that is not padding. Where a tokenizer pads with its end token, that is the
    token before the end token.
    """
    if head == "all":
        return None
    if head == "first":
        return 0
    return next((index for index in reversed(range(len(input_ids))) if input_ids[index] != pad_id), 0)


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_length: int,
    head: Head = "all",
    pad_id: int = 0,
    on_step: OnStep = no_step,
) -> list[Tokenized]:
    """Tokenize texts and cut the end of each beyond `max_length` tokens, and before beyond `CHARACTERS_PER_TOKEN` each.

    Text that spells a special token ("<eos>") is tokenized as ordinary characters, whatever the tokenizer's model
    (`text_backend`), so that no document can contain a padding or end token and move the position that the head reads.

    Args:
        tokenizer: a fast one.
        texts: of the documents.
        max_length: tokens per document, special ones included.
        head: positions that the head reads, which decide `Tokenized.head`.
        pad_id: token of padding.
        on_step: called after each call of the tokenizer, of a fraction of a second; it may raise, to end the work.

    Raises:
        ModelError: as of `text_backend`.
    """
    backend = text_backend(tokenizer)
    configure(backend, max_length)
    max_characters = CHARACTERS_PER_TOKEN * max_length
    documents: list[Tokenized] = []
    for first, last in _calls([min(len(text), max_characters) for text in texts]):
        cut = [text[:max_characters] for text in texts[first:last]]
        documents += _tokenize(backend, cut, head, pad_id)
        for text, document in zip(texts[first:last], documents[first:], strict=True):
            document.truncated |= len(text) > max_characters
        on_step()
    return documents


def _calls(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First text of each call of the tokenizer, and the one after its last, from the characters of each text."""
    first = characters = 0
    for number, length in enumerate(lengths):
        if number > first and (number - first == _TEXTS_PER_CALL or characters + length > _CHARACTERS_PER_CALL):
            yield first, number
            first, characters = number, 0
        characters += length
    if first < len(lengths):
        yield first, len(lengths)


def _tokenize(backend: Tokenizer, texts: Sequence[str], head: Head, pad_id: int) -> list[Tokenized]:
    return [
        Tokenized(
            encoding.ids,
            encoding.offsets,
            encoding.special_tokens_mask,
            bool(encoding.overflowing),
            head_index(encoding.ids, head, pad_id),
        )
        for encoding in backend.encode_batch(list(texts))
    ]


def make_batch(documents: Sequence[Tokenized], pad_id: int) -> Batch:
    """Pad documents on the right to the length of the longest."""
    width = max(len(document) for document in documents)
    input_ids = torch.full((len(documents), width), pad_id, dtype=torch.int64)
    attention_mask = torch.zeros((len(documents), width), dtype=torch.int64)
    positions: list[int] = []
    offsets = [0]
    for row, document in enumerate(documents):
        length = len(document)
        input_ids[row, :length] = torch.tensor(document.input_ids)
        attention_mask[row, :length] = 1
        positions.extend(row * width + position for position in document.positions)
        offsets.append(len(positions))
    return Batch(input_ids, attention_mask, torch.tensor(positions, dtype=torch.int64), torch.tensor(offsets))


def bucketed(lengths: Sequence[int], batch_tokens: int, device: str = "cpu") -> Iterator[list[int]]:
    """Group documents of similar length into batches with little padding.

    Of all ways to cut the documents, sorted by length, into batches, the one of minimum cost is chosen: the cost is the
    number of padded tokens, and `BATCH_COST` documents of mean length per batch.

    Args:
        lengths: tokens per document.
        batch_tokens: tokens per batch, padding included; a longer document is a batch of its own.
        device: kind of device that runs the batches.

    Yields:
        indices into `lengths` of each batch; longest first, ties by index, so that the grouping is deterministic.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    start_cost = BATCH_COST[device] * sum(lengths) / max(1, len(lengths))
    sorted_lengths = np.array(lengths, np.int64)[order]
    minimum = np.zeros(len(order) + 1)  # of the first `stop` documents: cost of the best cut
    begin = [0]  # and the start of its last batch
    lowest = 0  # start of the largest batch that ends at `stop` and keeps to the budget
    for stop in range(1, len(order) + 1):
        while lowest < stop - 1 and sorted_lengths[lowest] * (stop - lowest) > batch_tokens:
            lowest += 1
        padded = sorted_lengths[lowest:stop] * np.arange(stop - lowest, 0, -1)
        costs = minimum[lowest:stop] + padded + start_cost
        best = int(costs.argmin())
        minimum[stop] = costs[best]
        begin.append(lowest + best)
    cuts = [len(order)]
    while cuts[-1]:
        cuts.append(begin[cuts[-1]])
    for stop, first in reversed(list(pairwise(cuts))):
        yield order[first:stop]
