"""The strongest positions of the features of a layer over all shards, and their tokens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tegakari.indexer.corpus_documents import CorpusDocuments
from tegakari.indexer.feature_ranges import feature_ranges
from tegakari.indexer.merge_loops import fill_places, select_candidates
from tegakari.indexer.partial import CANDIDATES, Partial
from tegakari.indexer.strongest import bits_of, no_entries, strongest_entries
from tegakari.store.blocks.files import TopPositions

TOKEN_BYTES = 120
"""Memory per strongest position while its token is read and written."""

_POSITION_BYTES = 64
"""Memory per strongest position while it is selected."""


def strongest_positions(
    partials: Sequence[Partial], layer: int, d_sae: int, n: int, corpus: CorpusDocuments, memory: int
) -> TopPositions:
    """The n strongest positions of each feature of a layer; among equal activations the first in the corpus.

    Args:
        partials: of all shards.
        layer: the layer.
        d_sae: its features.
        n: positions per feature.
        corpus: all documents.
        memory: bytes to take at most, beside the result.
    """
    shape = d_sae, n
    result = TopPositions(np.empty(shape, np.float32), np.empty(shape, np.int32), np.empty(shape, np.int32))
    for features in feature_ranges(partials, layer, d_sae, CANDIDATES, memory, n * _POSITION_BYTES):
        activation, document, position = features.columns
        rows = corpus.offsets[document] + position
        keys = no_entries(features.stop - features.start, n)
        select_candidates(features.starts, bits_of(activation), rows, keys)
        rows, activation = strongest_entries(keys)
        part = TopPositions(*(column[features.start : features.stop] for column in result))
        part.activation[:] = activation
        fill_places(corpus.offsets, rows.reshape(-1), part.document.reshape(-1), part.position.reshape(-1))
    return result


class TopTokens(NamedTuple):
    """Tokens at the strongest positions of F features."""

    token_id: np.ndarray
    """int32 [F, n]; 0 where there is no position, as in the next two."""
    char_start: np.ndarray
    char_end: np.ndarray
    text: np.ndarray
    """int32 [F, n]: index into `texts`, -1 where there is no position."""
    texts: list[str]


def top_tokens(partials: Sequence[Partial], corpus: CorpusDocuments, positions: TopPositions) -> TopTokens:
    """Read the tokens at positions, one shard after the other.

    Args:
        partials: of all shards.
        corpus: all documents.
        positions: of F features.
    """
    document, position = positions.document.reshape(-1), positions.position.reshape(-1)
    (exists,) = np.nonzero(document >= 0)
    shard = corpus.shard[document[exists]].astype(np.min_scalar_type(len(partials)))  # 16 bits are sorted by counting
    by_shard = exists[np.argsort(shard, kind="stable")]
    ends = np.cumsum(np.bincount(shard, minlength=len(partials)))
    columns = [np.zeros(len(document), np.int32) for _ in range(3)]
    text = np.full(len(document), -1, np.int32)
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__  # a new text gets the next number
    first = np.empty(len(corpus.shard), np.int32)  # of the documents of one shard: row of the first token
    for partial, start, end in zip(partials, [0, *ends[:-1]], ends, strict=True):
        if start == end:
            continue
        tokens, places = partial.tokens(), by_shard[start:end]
        first[partial.document_numbers()] = np.cumsum(tokens.token_counts) - tokens.token_counts
        rows = first[document[places]] + position[places]
        for column, values in zip(columns, (tokens.token_ids, tokens.token_starts, tokens.token_ends), strict=True):
            column[places] = values[rows]
        of_shard, inverse = np.unique(tokens.token_texts[rows], return_inverse=True)
        text[places] = np.array([numbers[content] for content in tokens.texts(of_shard)], np.int32)[inverse]
    shape = positions.document.shape
    token_id, char_start, char_end = (column.reshape(shape) for column in columns)
    return TopTokens(token_id, char_start, char_end, text.reshape(shape), list(numbers))
