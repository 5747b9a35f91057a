"""Onset of a feature over its stored strongest positions, and the lift of the tokens up to there.

A feature of a label is often strongest on what follows the clue, such as a closing phrase. The clue is among the tokens
that stand at or before the onset, and in more of these documents than of all documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

from tegakari.schemas.api import FeatureOnset, FeatureRow, LabelFeature, TokenLift
from tegakari.store.blocks.files import DOCUMENTS_FILE, top_file
from tegakari.store.reader import Run
from tegakari.store.weak_cache import weakly_cached

TOKENS = 5
"""Tokens of each list."""

MIN_DOCUMENTS = 2
MIN_SHARE = 0.1
"""A token by lift stands in this many of the feature's documents at least, and in this share: a token that is rare in
the corpus would otherwise have the largest lift by chance."""

_ID_BITS = 31

R = TypeVar("R", FeatureRow, LabelFeature)


def with_onset(run: Run, rows: Sequence[R], places: np.ndarray) -> list[R]:
    """Rows of features with their onset tokens and tokens by lift; 1 to 2 ms per feature that is not in memory."""
    return [
        msgspec.structs.replace(
            row,
            onset_tokens=[token.token for token in onset.onset_tokens],
            lift_tokens=[token.token for token in onset.lift_tokens],
        )
        for row, onset in zip(rows, (feature_onset(run, place) for place in places.tolist()), strict=True)
    ]


@weakly_cached(maxsize=4096)
def feature_onset(run: Run, place: int) -> FeatureOnset:
    """Tokens on which a feature sets in, and tokens up to there by lift.

    The onset in a document is the first of the feature's stored positions in it. The lift of a token is the share of
    the feature's documents that have it at or before the onset, divided by the share of all documents that have it.

    Args:
        run: published.
        place: of the feature.

    Raises:
        StoreError: the run is damaged.
    """
    document, onset = onsets(run, place)
    if not len(document):
        return FeatureOnset(documents=0, onset_tokens=[], lift_tokens=[])
    first = run.blocks.documents.first_token
    at_onset = _documents_of_tokens(run, first[document] + onset, np.ones(len(document), np.int64))
    up_to_onset = _documents_of_tokens(run, first[document], onset.astype(np.int64) + 1)
    frequent = up_to_onset.documents >= max(MIN_DOCUMENTS, MIN_SHARE * len(document))
    return FeatureOnset(
        documents=len(document),
        onset_tokens=_rows(run, at_onset, np.lexsort((-at_onset.lift, -at_onset.documents)), len(document)),
        lift_tokens=_rows(
            run,
            up_to_onset,
            np.flatnonzero(frequent)[np.lexsort((-up_to_onset.documents[frequent], -up_to_onset.lift[frequent]))],
            len(document),
        ),
    )


class _CorpusTokens(NamedTuple):
    """Documents of a run per token."""

    id: np.ndarray
    """int64, ascending"""
    documents: np.ndarray
    """int64: documents that have the token"""


@weakly_cached(maxsize=2)
def _corpus_tokens(run: Run) -> _CorpusTokens:
    documents = run.blocks.documents
    run.blocks.check_numbers(DOCUMENTS_FILE, documents.token_ids, 2**_ID_BITS)
    document = np.repeat(np.arange(len(documents.label_id)), np.diff(documents.first_token))
    pairs = (documents.token_ids.astype(np.int64) << 32) | document
    pairs.sort()  # then neighbours are compared: `np.unique` takes seven times as long
    token = pairs[np.flatnonzero(np.diff(pairs, prepend=-1))] >> 32
    first = np.flatnonzero(np.diff(token, prepend=-1))
    return _CorpusTokens(token[first], np.diff(first, append=len(token)))


def onsets(run: Run, place: int) -> tuple[np.ndarray, np.ndarray]:
    """Documents with a stored position of a feature, and the first such position in each; both int32 [D].

    Raises:
        StoreError: the run is damaged.
    """
    top, documents = run.blocks.top_positions, run.blocks.documents
    count = int(np.count_nonzero(top.document[place] >= 0))
    document, position = top.document[place, :count], top.position[place, :count]
    check_numbers = run.blocks.check_numbers
    check_numbers(top_file("token", "document"), document, len(documents.label_id))
    beyond = documents.first_token[document + 1] - 1 - documents.first_token[document] - position
    check_numbers(top_file("token", "position"), np.minimum(position, beyond), 2**31)
    order = np.lexsort((position, document))
    first = order[np.flatnonzero(np.diff(document[order], prepend=-1))]
    return document[first], position[first]


class _TokenDocuments(NamedTuple):
    """Tokens in ranges of tokens, one range per document."""

    occurrence: np.ndarray
    """int64: number of a token of the run with this id"""
    documents: np.ndarray
    """int64: documents whose range has it"""
    lift: np.ndarray
    """float64"""


def _documents_of_tokens(run: Run, start: np.ndarray, length: np.ndarray) -> _TokenDocuments:
    """Tokens in the range of each document, `start[i]` to `start[i] + length[i]`."""
    range_ = np.repeat(np.arange(len(start), dtype=np.int64), length)
    before = np.cumsum(length) - length
    tokens = np.arange(len(range_)) - before[range_] + start[range_]
    corpus = _corpus_tokens(run)  # checks the ids
    ids = run.blocks.documents.token_ids[tokens].astype(np.int64)
    pairs, index = np.unique((range_ << _ID_BITS) | ids, return_index=True)
    id_, first, counts = np.unique(pairs & (2**_ID_BITS - 1), return_index=True, return_counts=True)
    in_corpus = corpus.documents[np.searchsorted(corpus.id, id_)]
    lift = (counts / len(start)) / (in_corpus / len(run.blocks.documents.label_id))
    return _TokenDocuments(tokens[index[first]], counts, lift)


def _rows(run: Run, tokens: _TokenDocuments, order: np.ndarray, documents: int) -> list[TokenLift]:
    """The first tokens in an order; those without characters, and spellings that stand before, are left out."""
    rows: dict[str, TokenLift] = {}
    for number, text in _texts(run, tokens.occurrence, order):
        if text and text not in rows:
            count = int(tokens.documents[number])
            rows[text] = TokenLift(
                token=text, documents=count, share=count / documents, lift=float(tokens.lift[number])
            )
        if len(rows) == TOKENS:
            break
    return list(rows.values())


def _texts(run: Run, occurrence: np.ndarray, order: np.ndarray) -> Iterator[tuple[int, str]]:
    documents = run.blocks.documents
    for number in order.tolist():
        token = int(occurrence[number])
        document = int(np.searchsorted(documents.first_token, token, side="right")) - 1
        run.blocks.check_numbers(DOCUMENTS_FILE, documents.token_starts[token : token + 1], 2**31)
        text = documents.text[document].as_py()[documents.token_starts[token] : documents.token_ends[token]]
        yield number, text.strip()
