"""Explanations of a layer's features: terms, the strongest token, its place and script, and the best labels."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from tegakari.store.contexts import LayerContexts
from tegakari.terms.held_out import explaining, held_out, pairs_of
from tegakari.terms.loops import fill_terms
from tegakari.terms.scripts import NONE
from tegakari.terms.windows import PRIOR_WORDS, Corpus

TERMS = 8
"""Terms of a feature."""
TERM_WORDS = 4
"""Words of a term: the cutter parts what belongs together."""
ALPHA = 0.05
"""Probability that a feature has a term by chance: Bonferroni's bound over the words of its contexts."""
MIN_GAIN = 0.03
"""Share of the contexts that a term adds to those before it, less what it adds in the corpus."""
MIN_TOTAL = 0.3
"""Share of the contexts that all terms together have, less that of the corpus, below which a feature has no terms: they
would name what little of its contexts they have, and no reader could tell its contexts by them."""
COMMON = 0.8
"""Share of the contexts from which a token, a place or a script is common to them."""
MAX_CORPUS = 0.5
"""Share of the corpus's tokens up to which a place or a script says anything: in English, all is Latin letters."""

_MIN_Z = np.array([NormalDist().inv_cdf(1 - ALPHA / max(tests, 1)) for tests in range(4097)])
"""z-score of a term among so many words, one-sided; the last one holds for more."""


class LayerTerms(NamedTuple):
    """What the contexts of F features have in common; parallel arrays, one row per feature."""

    documents: np.ndarray
    """int32 [F]: contexts, one per document"""
    covered: np.ndarray
    """int32 [F]: contexts with a term"""
    words: np.ndarray
    """int32 [F, TERMS, TERM_WORDS]: word ids of each term, -1 beyond its last"""
    anchor: np.ndarray
    """int32 [F, TERMS]: the word of each term that the figures are of; the others only lengthen it"""
    z: np.ndarray
    """float64 [F, TERMS]"""
    term_documents: np.ndarray
    """int32 [F, TERMS]: contexts with each term"""
    on: np.ndarray
    """int32 [F, TERMS]: contexts whose strongest token is a part of the term"""
    before: np.ndarray
    """int32 [F, TERMS]: contexts with the term before the strongest token only"""
    token: np.ndarray
    """int32 [F]: form of the most frequent strongest token, -1: no context"""
    token_share: np.ndarray
    """float64 [F]"""
    place: np.ndarray
    """int64 [F]: index into PLACES, -1: no common place"""
    place_share: np.ndarray
    """float64 [F]"""
    script: np.ndarray
    """int64 [F]: index into SCRIPTS, -1: no common script"""
    script_share: np.ndarray
    """float64 [F]"""


def layer_terms(corpus: Corpus, features: range, layer: LayerContexts) -> LayerTerms:
    """Explain a range of features by their contexts, without those that are held out for scores.

    Args:
        corpus: documents of the run.
        features: numbers of the features.
        layer: contexts of these features.
    """
    contexts = layer.contexts
    pair = pairs_of(layer.feature, contexts.document)
    order = np.flatnonzero(explaining(pair, held_out(layer.feature, contexts.quantile, pair)))
    # Larger activations have larger bits: pair and activation in one number sort in a fifth of the time of two columns.
    weakness = np.iinfo(np.int32).max - contexts.activation[order].view(np.int32)
    order = order[np.argsort(pair[order] << 32 | weakness, kind="stable")]
    feature, document, position = (column[order] for column in (layer.feature, contexts.document, contexts.position))
    first = np.searchsorted(feature, np.arange(features.start, features.stop + 1))
    token = corpus.first_token[document] + position
    word_start, word_end = corpus.window(document, position)
    is_word = corpus.covers[token] & (corpus.end_word[token] > corpus.first_word[token])
    words = corpus.words
    count = len(features)
    shape = count, TERMS
    terms, anchor = np.full((*shape, TERM_WORDS), -1, np.int32), np.full(shape, -1, np.int32)
    term_documents, on, before = (np.zeros(shape, np.int32) for _ in range(3))
    z = np.zeros(shape)
    documents, covered = np.zeros(count, np.int32), np.zeros(count, np.int32)
    fill_terms(
        first, document, word_start, word_end, corpus.first_word[token], is_word, words.form, words.joined,
        corpus.alpha, PRIOR_WORDS, corpus.log_odds, corpus.variance, corpus.rate, _MIN_Z, MIN_GAIN,
        MIN_TOTAL, COMMON,
        terms, anchor, term_documents, on, before, z, documents, covered,
    )  # fmt: skip
    # One context per document: the strongest, which is the first of a document.
    strongest = np.flatnonzero(np.diff(pair[order], prepend=-1))
    row, token = feature[strongest] - features.start, token[strongest]
    n = np.maximum(documents, 1)
    form, form_share = _most_frequent(row, corpus.token_form[token], n)
    in_places = np.column_stack([np.bincount(row[there], minlength=count) for there in corpus.place[token].T])
    place, place_share = _common(in_places, corpus.place_share, n)
    of_scripts = np.bincount(row * (NONE + 1) + corpus.script[token], minlength=count * (NONE + 1))
    script, script_share = _common(of_scripts.reshape(count, NONE + 1)[:, :NONE], corpus.script_share, n)
    return LayerTerms(
        documents=documents,
        covered=covered,
        words=terms,
        anchor=anchor,
        z=z,
        term_documents=term_documents,
        on=on,
        before=before,
        token=form,
        token_share=form_share,
        place=place,
        place_share=place_share,
        script=script,
        script_share=script_share,
    )


def _most_frequent(row: np.ndarray, value: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The most frequent value of each row and its share; -1 where a row has no value. Ties: the smallest value."""
    pairs, counts = np.unique(row.astype(np.int64) << 32 | value, return_counts=True)
    order = np.lexsort((pairs, -counts, pairs >> 32))
    best = order[np.flatnonzero(np.diff(pairs[order] >> 32, prepend=-1))]
    values, share = np.full(len(n), -1, np.int32), np.zeros(len(n))
    rows = pairs[best] >> 32
    values[rows], share[rows] = pairs[best] & 0x7FFF_FFFF, counts[best] / n[rows]
    return values, share


def _common(counts: np.ndarray, corpus_share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first kind that is common to the contexts of each row, and its share; -1 without one.

    Args:
        counts: int64 [rows, kinds], contexts of each kind.
        corpus_share: float64 [kinds], share of all tokens.
        n: int [rows], contexts of each row.
    """
    share = counts / n[:, None]
    common = (share >= COMMON) & (corpus_share <= MAX_CORPUS)
    any_kind, kind = common.any(1), common.argmax(1)
    return np.where(any_kind, kind, -1), np.where(any_kind, share[np.arange(len(n)), kind], 0.0)
