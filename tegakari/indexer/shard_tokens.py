"""Tokens of the documents of a shard with their texts: spelled where the shard is computed, not once for all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tegakari.indexer.shard import IndexedDocument


class ShardTokens(NamedTuple):
    """Tokens of D documents, document after document: T tokens in parallel arrays, and their distinct texts."""

    token_counts: np.ndarray
    """int32 [D]: tokens of each document."""
    token_ids: np.ndarray
    """int32 [T]"""
    token_starts: np.ndarray
    """int32 [T]: first character of the token in its document."""
    token_ends: np.ndarray
    """int32 [T]: the character after the token's last."""
    token_texts: np.ndarray
    """int32 [T]: number of the text of the characters from start to end."""
    text_ends: np.ndarray
    """int64 [texts]: bytes of the texts up to the end of each."""
    text_bytes: np.ndarray
    """uint8: the texts in UTF-8, one after the other."""

    def texts(self, numbers: np.ndarray) -> list[str]:
        """Texts by their numbers."""
        content = self.text_bytes.tobytes()
        starts = np.concatenate([[0], self.text_ends[:-1]])
        pairs = zip(starts[numbers].tolist(), self.text_ends[numbers].tolist(), strict=True)
        return [content[start:end].decode("utf-8") for start, end in pairs]


def shard_tokens(documents: Sequence[IndexedDocument], special_tokens: Mapping[int, str]) -> ShardTokens:
    """Collect the tokens of documents.

    Args:
        documents: of the shard.
        special_tokens: text of each special token, by id. Such a token covers no characters; where the head reads it,
            it is among the top tokens.
    """
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__  # a new text gets the next number
    arrays = [document.tokens.arrays for document in documents]
    of_documents = []
    for document, (token_ids, spans) in zip(documents, arrays, strict=True):
        content = document.text
        texts = [content[start:end] for start, end in spans.tolist()]
        if special_tokens:
            for index in np.flatnonzero(spans[:, 0] == spans[:, 1]):
                texts[index] = special_tokens.get(int(token_ids[index]), "")
        of_documents.append(np.array([numbers[text] for text in texts], np.int32))
    encoded = [text.encode("utf-8") for text in numbers]
    spans = np.concatenate([spans for _, spans in arrays])
    return ShardTokens(
        token_counts=np.array([len(token_ids) for token_ids, _ in arrays], np.int32),
        token_ids=np.concatenate([token_ids for token_ids, _ in arrays]),
        token_starts=spans[:, 0],
        token_ends=spans[:, 1],
        token_texts=np.concatenate(of_documents),
        text_ends=np.cumsum([len(text) for text in encoded], dtype=np.int64),
        text_bytes=np.frombuffer(b"".join(encoded), np.uint8),
    )
