"""Windows of whole words around positions, and the statistics of words over the windows of a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tegakari.schemas.run import RunManifest
from tegakari.store.blocks.mapped import Documents
from tegakari.terms.places import token_places
from tegakari.terms.scripts import NONE, token_scripts
from tegakari.terms.words import CorpusWords, corpus_words, form_of

BEFORE = 24
"""Tokens of a window before its position: a feature is often strongest behind its clue."""
AFTER = 8
"""Tokens of a window after its position."""

PRIOR_WORDS = 50.0
"""Words that the prior of the log-odds counts for."""


class Corpus(NamedTuple):
    """Documents of a run: their words, tokens, and what a word's share in a window is compared with."""

    texts: list[str]
    words: CorpusWords
    first_token: np.ndarray
    """int32 [documents + 1]: row of each document's first token"""
    first_word: np.ndarray
    """int64 [T]: row of the first word that a token is a part of; of a token without words, the one after it."""
    end_word: np.ndarray
    """int64 [T]: row of the word after the last"""
    covers: np.ndarray
    """bool [T]: whether a token has characters; special tokens have none."""
    script: np.ndarray
    """int8 [T]: index into SCRIPTS, or NONE"""
    script_share: np.ndarray
    """float64 [SCRIPTS]: share of the tokens of each script"""
    place: np.ndarray
    """bool [T, PLACES]: whether a token stands in each of PLACES"""
    place_share: np.ndarray
    """float64 [PLACES]: share of the tokens there"""
    token_form: np.ndarray
    """int32 [T]: number of the token's form in `token_forms`"""
    token_forms: list[str]
    """distinct forms of tokens"""
    alpha: np.ndarray
    """float64 [forms]: prior count of each word, with the sum PRIOR_WORDS"""
    log_odds: np.ndarray
    """float64 [forms]: logarithm of the odds of each word in the corpus, with the prior"""
    variance: np.ndarray
    """float64 [forms]: of `log_odds`"""
    rate: np.ndarray
    """float64 [forms]: expected share of windows that have each word"""

    def window(self, document: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First word, and the word after the last, of the windows around positions; int64, as the arguments."""
        start, stop = self.first_token[document], self.first_token[document + 1]
        token = start + position
        low, high = np.maximum(token - BEFORE, start), np.minimum(token + AFTER, stop - 1)
        return self.first_word[low], np.maximum(self.end_word[high], self.first_word[low])


def open_corpus(documents: Documents, manifest: RunManifest) -> Corpus:
    """Cut the documents of a run into words; 10 s for 12,650 posts."""
    texts: list[str] = documents.text.to_pylist()
    words = corpus_words(texts)
    first, starts, ends = documents.first_token, documents.token_starts, documents.token_ends
    covers = ends > starts
    script = token_scripts(texts, first, starts, ends)
    first_word, end_word = _words_of_tokens(texts, words, first, starts, ends, covers)
    token_form, token_forms = _token_forms(texts, documents)
    place = token_places(first, covers, script, manifest.classifier.head)
    # Equation 13 of Monroe et al. with an informative prior, 23: alpha is PRIOR_WORDS by the words' shares.
    total = max(int(words.occurrences.sum()), 1)
    alpha = PRIOR_WORDS * words.occurrences / total
    counts = words.occurrences + alpha
    corpus = Corpus(
        texts=texts,
        words=words,
        first_token=first,
        first_word=first_word,
        end_word=end_word,
        covers=covers,
        script=script,
        script_share=np.bincount(script, minlength=NONE + 1)[:NONE] / max(len(script), 1),
        place=place,
        place_share=place.sum(0) / max(len(place), 1),
        token_form=token_form,
        token_forms=token_forms,
        alpha=alpha,
        log_odds=np.log(counts / np.maximum(total + PRIOR_WORDS - counts, 1e-9)),
        variance=1 / counts,
        rate=np.zeros(len(alpha)),
    )
    document = np.repeat(np.arange(len(texts)), np.diff(first))
    low, high = corpus.window(document, np.arange(len(starts)) - first[document])
    length = float((high - low).mean()) if len(low) else 0.0
    return corpus._replace(rate=1 - (1 - words.occurrences / total) ** length)


def _words_of_tokens(
    texts: Sequence[str],
    words: CorpusWords,
    first: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    covers: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """First word, and the word after the last, of each token; those of tokens without characters are empty."""
    offset = np.concatenate([[0], np.cumsum([len(text) for text in texts])])[:-1]
    of_words, of_tokens = np.repeat(offset, np.diff(words.first)), np.repeat(offset, np.diff(first))
    low = np.searchsorted(of_words + words.end, of_tokens + starts, side="right")
    high = np.maximum(np.searchsorted(of_words + words.start, of_tokens + ends, side="left"), low)
    # The span of a special token is (0, 0) wherever it stands: it follows the words of the tokens before it.
    high = np.maximum.accumulate(np.where(covers, high, np.repeat(words.first[:-1], np.diff(first))))
    return np.where(covers, low, high), high


def _token_forms(texts: list[str], documents: Documents) -> tuple[np.ndarray, list[str]]:
    """Number of each token's form, int32 [T], and the forms; a token has the form of its first occurrence."""
    distinct, rows, inverse = np.unique(documents.token_ids, return_index=True, return_inverse=True)
    document = np.searchsorted(documents.first_token, rows, side="right") - 1
    numbers: dict[str, int] = {}
    of_token = np.empty(len(distinct), np.int32)
    spans = zip(
        document.tolist(), documents.token_starts[rows].tolist(), documents.token_ends[rows].tolist(), strict=True
    )
    for index, (number, start, end) in enumerate(spans):
        text = texts[number][start:end].strip()
        of_token[index] = numbers.setdefault(form_of(text) if text else "", len(numbers))
    return of_token[inverse], list(numbers)
