"""Tokens of a label agree with the hypergeometric distribution of scipy, counted in plain Python."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import hypergeom

from tegakari.analyses.cues import STRONG, label_cues
from tegakari.analyses.label_tokens import MAX_PROBABILITY, token_documents
from tegakari.store import Run


def documents_of_tokens(run: Run) -> tuple[list[set[int]], list[int]]:
    """Ids of the tokens of every document, and its label."""
    documents = run.blocks.documents
    first = np.asarray(documents.first_token).tolist()
    tokens = [set(np.asarray(documents.token_ids[start:end]).tolist()) for start, end in pairwise(first)]
    return tokens, np.asarray(documents.label_id).tolist()


def probability(run: Run, token: int, label_id: int) -> float:
    tokens, labels = documents_of_tokens(run)
    inside = sum(token in of_document for of_document, label in zip(tokens, labels, strict=True) if label == label_id)
    total = sum(token in of_document for of_document in tokens)
    return float(hypergeom.sf(inside - 1, len(labels), total, labels.count(label_id)))


def test_tokens_of_a_label_are_in_more_documents_than_chance_gives(run: Run):
    tokens, labels = documents_of_tokens(run)
    every = sorted(set.union(*tokens))
    occurrences = token_documents(run)
    found = 0
    for label_id in range(len(run.labels)):
        of_label = occurrences.are_of_label(every, label_id)
        probabilities = [probability(run, token, label_id) for token in every]
        assert [value <= MAX_PROBABILITY / len(every) for value in probabilities] == of_label
        for token, value in zip(every, probabilities, strict=True):
            assert np.exp(occurrences._log_probability(token, label_id)) == pytest.approx(value, rel=1e-6)
        inside = [of_document for of_document, label in zip(tokens, labels, strict=True) if label == label_id]
        others = [of_document for of_document, label in zip(tokens, labels, strict=True) if label != label_id]
        for token in every[:20]:
            shares = occurrences.shares(token, label_id)
            assert shares.label == pytest.approx(np.mean([token in of_document for of_document in inside]))
            assert shares.others == pytest.approx(np.mean([token in of_document for of_document in others]))
        found += sum(of_label)
    assert 0 < found < len(every) * len(run.labels) / 2


def test_cues_count_the_features_of_each_token_of_the_label(run: Run):
    occurrences = token_documents(run)
    of_all_labels = 0
    for label in run.labels:
        cues = label_cues(run, label, layer=1, k=8)
        expected: dict[int, int] = {}
        on_label_tokens = 0
        for feature in cues.features:
            rows = run.rows(
                "SELECT activation, token_id FROM top_tokens WHERE layer = 1 AND feature = $f ORDER BY rank",
                {"f": feature.feature},
            )
            strong = [row["token_id"] for row in rows if row["activation"] >= STRONG * rows[0]["activation"]]
            by_frequency = sorted(dict.fromkeys(strong), key=lambda token: -strong.count(token))
            of_label = [token for token in by_frequency if occurrences.are_of_label([token], run.label_id(label))[0]]
            on_label_tokens += by_frequency[0] in of_label
            if of_label:
                expected[of_label[0]] = expected.get(of_label[0], 0) + 1
        assert [token.features for token in cues.label_tokens] == sorted(expected.values(), reverse=True)
        assert cues.on_label_tokens == on_label_tokens
        assert all(token.label_share > token.other_share for token in cues.label_tokens)
        of_all_labels += len(expected)
    assert of_all_labels > 0
