"""Every token of the corpus in one row, so that millions of top tokens are named by gathers instead of a loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tegakari.indexer.shard import IndexedDocument


class Spelling(NamedTuple):
    """Tokens of all documents, document after document; parallel arrays but for the first two."""

    first: np.ndarray
    """int64 [documents + 1]: where each document's tokens begin; the number of all at the end."""
    texts: pa.StringArray
    """different token texts; `text` points into it."""
    token_id: np.ndarray
    """int32"""
    start: np.ndarray
    """int32: first character of the token in its document."""
    end: np.ndarray
    """int32: character after the last."""
    text: np.ndarray
    """int32: the characters from start to end."""

    def at(self, document: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Where these positions of these documents are; int64."""
        return self.first[document] + position


def spelling(documents: Sequence[IndexedDocument]) -> Spelling:
    """Spell the tokens of documents, which are in the order of their numbers."""
    numbers: dict[str, int] = {}
    text, token_id, spans = [], [], []
    for document in documents:
        tokens, content = document.tokens, document.text
        codes = [numbers.setdefault(content[start:end], len(numbers)) for start, end in tokens.spans]
        text.append(np.array(codes, np.int32))
        token_id.append(np.array(tokens.input_ids, np.int32))
        spans.append(np.array(tokens.spans, np.int32).reshape(-1, 2))
    every_span = np.concatenate(spans)
    return Spelling(
        first=np.cumsum([0, *(len(codes) for codes in text)]),
        texts=pa.array(list(numbers), pa.string()),
        token_id=np.concatenate(token_id),
        start=np.ascontiguousarray(every_span[:, 0]),
        end=np.ascontiguousarray(every_span[:, 1]),
        text=np.concatenate(text),
    )


def first_different(group: np.ndarray, code: np.ndarray, groups: int, n: int) -> np.ndarray:
    """The first n different codes of each group, in the order in which they come; int32 [groups, n], -1 = no more.

    Args:
        group: ascending, int32.
        code: non-negative, int32; parallel.
        groups: number of groups.
        n: codes wanted of each.
    """
    found = np.full((groups, n), -1, np.int32)
    if len(group):
        pairs = group.astype(np.int64) * (int(code.max()) + 1) + code
        _, first = np.unique(pairs, return_index=True)
        first.sort()
        kept_group, kept_code = group[first], code[first]
        starts = np.searchsorted(kept_group, np.arange(groups))
        rank = np.arange(len(first)) - starts[kept_group]
        shown = rank < n
        found[kept_group[shown], rank[shown]] = kept_code[shown]
    return found
