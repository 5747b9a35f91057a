"""Clue words of a label: the tokens that its features rise on."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from tegakari.store import Run, queries
from tegakari.store.queries.onset import feature_onset

FEATURES = 20
"""Features of the largest d whose tokens are counted."""

WORDS = 10


class ClueWord(NamedTuple):
    """A token that features of a label rise on."""

    token: str
    features: int
    """of which it is one of the tokens by lift"""
    lift: float
    """the largest of these features"""


class ClueWords(NamedTuple):
    """Clue words of a label, those of most features first."""

    words: list[ClueWord]
    features: int
    """that were looked at"""


def clue_words(run: Run, label: str) -> ClueWords:
    """Tokens by lift of the features of largest d of a label, in all layers; ties by lift.

    Raises:
        NotFoundError: the run has no such label.
    """
    rows = queries.label_features(run, label, limit=FEATURES).items
    lifts: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for token in feature_onset(run, queries.feature_place(run, row.layer, row.feature)).lift_tokens:
            lifts[token.token].append(token.lift)
    words = [ClueWord(token, len(values), max(values)) for token, values in lifts.items()]
    words.sort(key=lambda word: (-word.features, -word.lift))
    return ClueWords(words[:WORDS], len(rows))
