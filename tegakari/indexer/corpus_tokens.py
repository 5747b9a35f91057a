"""All tokens of the indexed documents as parallel arrays, so that top tokens get their texts by array indexing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tegakari.indexer.shard import IndexedDocument


class CorpusTokens(NamedTuple):
    """Tokens of all documents, document after document: T tokens in parallel arrays, and the distinct texts."""

    offsets: np.ndarray
    """int64 [documents + 1]: row of each document's first token; the last entry is T."""
    document: np.ndarray
    """int32 [T]: number of the document."""
    texts: pa.StringArray
    """distinct token texts."""
    token_id: np.ndarray
    """int32 [T]."""
    char_start: np.ndarray
    """int32 [T]: first character of the token in its document."""
    char_end: np.ndarray
    """int32 [T]: the character after the token's last."""
    text: np.ndarray
    """int32 [T]: index into `texts` of the characters from `char_start` to `char_end`."""

    def rows(self, document: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Rows of tokens, int64, by document number and token index in the document."""
        return self.offsets[document] + position

    def by_document(self, values: np.ndarray) -> pa.ListArray:
        """One list per document of a per-token array."""
        return pa.ListArray.from_arrays(self.offsets.astype(np.int32), values)


def corpus_tokens(documents: Sequence[IndexedDocument], special_tokens: Mapping[int, str]) -> CorpusTokens:
    """Collect the tokens of documents.

    Args:
        documents: by number.
        special_tokens: text of each special token, by id. Such a token covers no characters; where the head reads it,
            it is among the top tokens.
    """
    text_numbers: defaultdict[str, int] = defaultdict()
    text_numbers.default_factory = text_numbers.__len__  # a new text gets the next number
    arrays = [document.tokens.arrays for document in documents]
    text = []
    for document, (token_ids, spans) in zip(documents, arrays, strict=True):
        content = document.text
        texts = [content[start:end] for start, end in spans.tolist()]
        if special_tokens:
            for index in np.flatnonzero(spans[:, 0] == spans[:, 1]):
                texts[index] = special_tokens.get(int(token_ids[index]), "")
        text.append(np.array([text_numbers[token_text] for token_text in texts], np.int32))
    all_spans = np.concatenate([spans for _, spans in arrays])
    lengths = [len(token_ids) for token_ids, _ in arrays]
    return CorpusTokens(
        offsets=np.cumsum([0, *lengths]),
        document=np.repeat(np.arange(len(documents), dtype=np.int32), lengths),
        texts=pa.array(list(text_numbers), pa.string()),
        token_id=np.concatenate([token_ids for token_ids, _ in arrays]),
        char_start=np.ascontiguousarray(all_spans[:, 0]),
        char_end=np.ascontiguousarray(all_spans[:, 1]),
        text=np.concatenate(text),
    )
