"""A run whose features are planted: each is active on something that a sentence can say."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from tegakari.indexer.shard import IndexedDocument
from tegakari.models.tokens import Tokenized
from tegakari.store import Run, Store
from tests.support.factories import BOS, Case, publish_case

LABELS = ("自動車", "料理", "gardening")
PER_LABEL = 60
CLUES = ("軽トラ", "味噌", "compost")
"""In two thirds of the documents of each label, and in no other document."""
NEUTRAL = (
    "今日", "明日", "写真", "相談", "時間", "友達", "会社", "電話", "天気", "仕事", "の", "を", "が", "に", "。", "、",
    "car", "soup", "the", "of", "12", "34", "😀", "🎉", "ignore", "above",
)  # fmt: skip

CLUE, AFTER_CLUE, NEVER, ALWAYS, LAST, ONCE, LABEL_WIDE, DIGITS, EMOJI, NOISE, ENGLISH_CLUE = range(11)
"""Features: on the clue 軽トラ; at the second token behind it; ...; on a random tenth of the tokens; on compost."""
D_SAE = 11


class Document(NamedTuple):
    """Tokens of a document; the words are joined by spaces where both are Latin."""

    words: list[str]
    label_id: int


def planted_run(store: Path) -> Run:
    """Publish the run `planted`."""
    publish_case(store, "planted", planted_case(), "planted", pooling="max", top_tokens=60)
    return Store(store).run("planted")


def planted_case() -> Case:
    """The documents and activations."""
    draws = np.random.default_rng(7)
    drawn = [_draw(draws, label_id, number) for label_id in range(len(LABELS)) for number in range(PER_LABEL)]
    documents = [_indexed(number, document) for number, document in enumerate(drawn)]
    activations = [_activations(draws, number, document) for number, document in enumerate(drawn)]
    labels = np.array([document.label_id for document in drawn], np.int32)
    return Case(LABELS, documents, [activations], labels)


def _draw(draws: np.random.Generator, label_id: int, number: int) -> Document:
    words = [str(word) for word in draws.choice(NEUTRAL, draws.integers(14, 30))]
    if number % 3:
        words[int(draws.integers(1, len(words) - 4))] = CLUES[label_id]
    return Document(words, label_id)


def _indexed(number: int, document: Document) -> IndexedDocument:
    text, spans, ids = "", [(0, 0)], [BOS]
    vocabulary = (*NEUTRAL, *CLUES)
    for word in document.words:
        text += " " * (text[-1:].isascii() and text[-1:].isalnum() and word.isascii())
        spans.append((len(text), len(text) + len(word)))
        ids.append(10 + vocabulary.index(word))
        text += word
    tokens = Tokenized(ids, spans, [True] + [False] * len(document.words), False)
    return IndexedDocument(number, f"{number:04d}", document.label_id, "eval", text, tokens)


def _activations(draws: np.random.Generator, number: int, document: Document) -> np.ndarray:
    """float32 [positions, D_SAE]."""
    n = len(document.words)
    words = np.array(document.words)
    strength = 1 + draws.random((n, D_SAE))
    active = np.zeros((n, D_SAE), bool)
    active[:, CLUE] = words == "軽トラ"
    active[2:, AFTER_CLUE] = active[:-2, CLUE]
    active[:, ALWAYS] = True
    active[-1, LAST] = True
    active[3, ONCE] = number == 5
    active[:, LABEL_WIDE] = (document.label_id == 1) & (draws.random(n) < 0.5)
    active[0, LABEL_WIDE] |= document.label_id == 1
    active[:, DIGITS] = np.isin(words, ("12", "34"))
    active[:, EMOJI] = np.isin(words, ("😀", "🎉"))
    active[:, NOISE] = draws.random(n) < 0.1
    active[:, ENGLISH_CLUE] = words == "compost"
    return np.where(active, strength, 0).astype(np.float32)
