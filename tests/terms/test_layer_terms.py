"""Terms of features against a straightforward implementation, and on planted features."""

from __future__ import annotations

import math
from collections import Counter
from statistics import NormalDist

import numpy as np
import pytest

from tegakari.store import Run
from tegakari.store.contexts import layer_contexts
from tegakari.terms.held_out import explaining, held_out, pairs_of
from tegakari.terms.layer_terms import ALPHA, MIN_GAIN, TERMS, layer_terms
from tegakari.terms.windows import AFTER, BEFORE, PRIOR_WORDS, open_corpus
from tegakari.terms.words import cut, form_of
from tests.support import planted_features as planted_case


def z_scores(contexts: list[set[str]], corpus: Counter[str]) -> dict[str, float]:
    """Monroe, Colaresi and Quinn 2008, equations 16, 20 and 22, with numbers of contexts as counts; plain Python."""
    total = sum(corpus.values())
    counts = Counter(word for words in contexts for word in words)
    n = sum(counts.values())
    scores = {}
    for word, y in counts.items():
        alpha = PRIOR_WORDS * corpus[word] / total
        odds = math.log((y + alpha) / (n + PRIOR_WORDS - y - alpha))
        odds_corpus = math.log((corpus[word] + alpha) / (total + PRIOR_WORDS - corpus[word] - alpha))
        scores[word] = (odds - odds_corpus) / math.sqrt(1 / (y + alpha) + 1 / (corpus[word] + alpha))
    return scores


def plain_windows(run: Run, layer: int, feature: int) -> dict[int, set[str]]:
    """Document -> forms of the words in the windows of its contexts that are not held out."""
    windows: dict[int, set[str]] = {}
    documents = run.blocks.documents
    for _, part in layer_contexts(run, layer):
        contexts = part.contexts
        pair = pairs_of(part.feature, contexts.document)
        scoring = held_out(part.feature, contexts.quantile, pair)
        rows = np.flatnonzero(explaining(pair, scoring) & (part.feature == feature))
        for document, position in zip(contexts.document[rows].tolist(), contexts.position[rows].tolist(), strict=True):
            first, stop = documents.first_token[document], documents.first_token[document + 1]
            tokens = range(max(first + position - BEFORE, first), min(first + position + AFTER + 1, stop))
            spans = [
                (documents.token_starts[token], documents.token_ends[token])
                for token in tokens
                if documents.token_ends[token] > documents.token_starts[token]
            ]
            text = documents.text[document].as_py()
            windows.setdefault(document, set()).update(
                form_of(text[start:end])
                for start, end in cut(text)
                if any(start < token_end and token_start < end for token_start, token_end in spans)
            )
    return windows


@pytest.mark.parametrize(
    "feature", [planted_case.CLUE, planted_case.AFTER_CLUE, planted_case.EMOJI, planted_case.NOISE]
)
def test_terms_have_the_scores_and_counts_of_the_definition(planted: Run, feature: int):
    corpus = open_corpus(planted.blocks.documents, planted.manifest)
    ((features, part),) = list(layer_contexts(planted, 0))
    terms = layer_terms(corpus, features, part)
    windows = plain_windows(planted, 0, feature)
    occurrences = Counter(
        form_of(text[start:end]) for text in planted.blocks.documents.text.to_pylist() for start, end in cut(text)
    )
    scores = z_scores(list(windows.values()), occurrences)
    assert terms.documents[feature] == len(windows)
    tests = sum(sum(word in words for words in windows.values()) >= 2 for word in scores)
    limit = NormalDist().inv_cdf(1 - ALPHA / max(tests, 1))
    covered: set[int] = set()
    silent = 1.0
    for index in range(TERMS):
        word = terms.anchor[feature, index]
        if word < 0:
            break
        form = corpus.words.forms[word]
        having = {document for document, words in windows.items() if form in words}
        assert terms.term_documents[feature, index] == len(having)
        if terms.on[feature, index] == 0:  # else the score of the strongest token's word may be larger
            assert terms.z[feature, index] == pytest.approx(scores[form])
        assert terms.z[feature, index] >= limit
        gains = {
            other: len({number for number, words in windows.items() if other in words} - covered) / len(windows)
            - silent * corpus.rate[corpus.words.forms.index(other)]
            for other in scores
            if scores[other] >= limit
        }
        gain = len(having - covered) / len(windows) - silent * corpus.rate[word]
        assert gain >= max(gains.values(), default=0) - 1e-9
        assert gain > MIN_GAIN
        covered |= having
        silent *= 1 - corpus.rate[word]
    if terms.documents[feature] and not covered:  # the first terms gain too little, all together
        assert feature == planted_case.NOISE
    assert terms.covered[feature] == len(covered)


def test_no_document_both_explains_a_feature_and_scores_it(planted: Run):
    for _, part in layer_contexts(planted, 0):
        contexts = part.contexts
        pair = pairs_of(part.feature, contexts.document)
        scoring = held_out(part.feature, contexts.quantile, pair)
        explains = explaining(pair, scoring)
        for feature in range(planted_case.D_SAE):
            rows = part.feature == feature
            assert not set(contexts.document[rows & scoring]) & set(contexts.document[rows & explains])
            assert explains[rows].any() == rows.any()
        clue = part.feature == planted_case.CLUE
        assert Counter(contexts.quantile[clue & scoring].tolist()) == {0: 10, **dict.fromkeys(range(1, 11), 1)}


@pytest.mark.parametrize("documents", [1, 2, 3, 5, 9, 11])
def test_a_feature_of_few_documents_is_always_explained(documents: int):
    numbers = np.arange(documents)
    tenth = numbers * 10 // documents + 1
    quantile = np.concatenate([np.zeros(documents), tenth]).astype(np.int32)
    document = np.tile(numbers, 2).astype(np.int32)
    feature = np.zeros(2 * documents, np.int32)
    pair = pairs_of(feature, document)
    scoring = held_out(feature, quantile, pair)
    assert explaining(pair, scoring).any()
    assert scoring.sum() <= documents
