"""Clue words are the tokens by lift of the label's features, counted; of a planted corpus they have the clue."""

from __future__ import annotations

from collections import Counter

import pytest

from tegakari.analyses.clue_words import FEATURES, clue_words
from tegakari.schemas.errors import NotFoundError
from tegakari.store import Run, queries
from tests.support.factories import Case


def test_words_are_counted_over_the_features_of_largest_d(random_run: tuple[Run, Case]):
    run, _ = random_run
    for label in run.labels:
        rows = queries.label_features(run, label, limit=FEATURES, onset=True).items
        counts = Counter(token for row in rows for token in row.lift_tokens or ())
        found = clue_words(run, label)
        assert found.features == len(rows)
        assert [word.features for word in found.words] == sorted(counts.values(), reverse=True)[: len(found.words)]
        assert all(counts[word.token] == word.features for word in found.words)
        lifts = [
            token.lift
            for row in rows
            for token in queries.feature(run, row.layer, row.feature, onset=True).onset.lift_tokens
            if token.token == found.words[0].token
        ]
        assert found.words[0].lift == max(lifts)


def test_the_words_of_a_label_without_documents_are_none(tmp_path_factory: pytest.TempPathFactory, run: Run):
    with pytest.raises(NotFoundError, match="no label"):
        clue_words(run, "none")
