"""Clue words are whole words whose pieces are tokens by lift of the label's features, counted over these features."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from tegakari.analyses.clue_words import FEATURES, WORDS, clue_words
from tegakari.models.tokens import Tokenized
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.knockout import LayerFeature
from tegakari.store import Run, Store, queries
from tests.support.factories import publish_case, random_case

VOCABULARY = {
    10: (["キャリーケース"], "ケース"),
    11: (["キャリーケース"], "リー"),
    12: (["トラック", "ロック", "バック", "ネック", "マジック", "ロジック", "ゴシック"], "ック"),
    13: (["Suica", "SUICA", "Ｓｕｉｃａ"], None),
}
"""Words that have the token with an id, and the piece of them that it covers; None: all of it."""


def test_pieces_are_joined_to_words_and_counted_over_features(tmp_path: Path):
    case, rng = random_case(layers=1, documents_per_label=12), np.random.default_rng(0)
    words: list[list[tuple[str, str]]] = []  # of each document: what each token covers, and the word around it
    for number, document in enumerate(case.documents):
        text, spans, of_document = "", [(0, 0)], [("", "")]
        for token in document.tokens.input_ids[1:]:
            spellings, piece = VOCABULARY.get(token, ([f"word{token}"], None))
            word = str(rng.choice(spellings))
            covered = piece or word
            start = len(text) + word.index(covered)
            spans.append((start, start + len(covered)))
            of_document.append((covered, "Suica" if word in VOCABULARY[13][0] else word))
            text += f"{word} "
        words.append(of_document)
        tokens = Tokenized(document.tokens.input_ids, spans, document.tokens.special, False)
        case.documents[number] = document._replace(text=text, tokens=tokens)
    publish_case(tmp_path, "pieces", case, "pieces")
    run = Store(tmp_path).run("pieces")

    shown = set[str]()
    for label in run.labels:
        rows = queries.label_features(run, label, limit=FEATURES).items
        lifts = defaultdict[str, dict[LayerFeature, float]](dict)
        for row in rows:
            for word, lift in expected_words(run, words, row.layer, row.feature).items():
                lifts[word][LayerFeature(row.layer, row.feature)] = lift
        found = clue_words(run, label)
        assert found.features == len(rows)
        assert len(found.words) == min(WORDS, len(lifts))
        numbers = sorted(map(len, lifts.values()), reverse=True)
        assert [len(word.features) for word in found.words] == numbers[:WORDS]
        for word in found.words:
            of_word = lifts["Suica" if word.word in VOCABULARY[13][0] else word.word]
            assert (word.features, word.lift) == (list(of_word), max(of_word.values()))
        shown |= {word.word for word in found.words}
    assert {"キャリーケース", "ック"} <= shown
    assert shown.isdisjoint({"ケース", "リー"})
    with pytest.raises(NotFoundError, match="no label"):
        clue_words(run, "none")


def expected_words(run: Run, words: list[list[tuple[str, str]]], layer: int, feature: int) -> dict[str, float]:
    """Word -> its largest lift, of the tokens by lift of a feature, by plain loops."""
    sql = (
        "SELECT document, min(position) AS onset FROM top_tokens WHERE layer = $layer AND feature = $feature GROUP BY 1"
    )
    onsets = run.rows(sql, {"layer": layer, "feature": feature})
    detail = queries.feature(run, layer, feature, tokens=0, onset=True).onset
    assert detail
    lifts: dict[str, float] = {}
    for row in detail.lift_tokens:
        around = [
            {word for covered, word in words[onset["document"]][: onset["onset"] + 1] if covered == row.token}
            for onset in onsets
        ]
        counts = Counter(word for of_document in around for word in of_document)
        word = min(counts, key=lambda word: (-counts[word], word))
        shown = word if counts[word] >= sum(map(bool, around)) / 2 else row.token
        lifts[shown] = max(row.lift, lifts.get(shown, 0.0))
    return lifts
