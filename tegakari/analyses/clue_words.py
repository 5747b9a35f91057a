"""Clue words of a label: the words that its features rise on."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from tegakari.analyses.whole_words import WholeWords
from tegakari.schemas.knockout import LayerFeature
from tegakari.store import Run, queries
from tegakari.store.queries.onset import feature_onset
from tegakari.terms.words import form_of

FEATURES = 20
"""Features of the largest d whose tokens are counted."""

WORDS = 10


class ClueWord(NamedTuple):
    """A word that features of a label rise on."""

    word: str
    features: list[LayerFeature]
    """that have a piece of it among their tokens by lift, largest d first"""
    lift: float
    """the largest of these tokens"""


class ClueWords(NamedTuple):
    """Clue words of a label, those of most features first."""

    words: list[ClueWord]
    features: int
    """that were looked at"""


def clue_words(run: Run, label: str) -> ClueWords:
    """Words whose pieces are tokens by lift of the features of largest d of a label, in all layers; ties by lift.

    Raises:
        NotFoundError: the run has no such label.
        StoreError: the run is damaged.
    """
    rows = queries.label_features(run, label, limit=FEATURES).items
    whole = WholeWords(run)
    lifts: dict[str, dict[LayerFeature, float]] = defaultdict(dict)
    spellings: dict[str, str] = {}
    for row in rows:
        place = queries.feature_place(run, row.layer, row.feature)
        tokens = {token.token: token.lift for token in feature_onset(run, place).lift_tokens}
        feature = LayerFeature(row.layer, row.feature)
        for token, word in whole.of_tokens(place, tokens).items():
            form = form_of(word)
            spellings.setdefault(form, word)
            lifts[form][feature] = max(tokens[token], lifts[form].get(feature, 0.0))
    words = [ClueWord(spellings[form], list(values), max(values.values())) for form, values in lifts.items()]
    words.sort(key=lambda word: (-len(word.features), -word.lift))
    return ClueWords(words[:WORDS], len(rows))
