"""Scripts of tokens: kanji, hiragana, katakana, Latin letters, digits, punctuation, emoji and symbols, spaces."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import get_args

import numpy as np

from tegakari.schemas.explanations import Script

SCRIPTS: tuple[Script, ...] = get_args(Script)
PUNCTUATION = SCRIPTS.index("punctuation")
NONE = len(SCRIPTS)
"""Number of tokens without characters, or with characters of several scripts."""

_SPACE = SCRIPTS.index("space")
_BY_CATEGORY: dict[str, Script] = {"N": "digits", "P": "punctuation", "S": "symbols", "Z": "space", "C": "space"}
_NAMES: dict[str, Script] = {"CJK": "kanji", "HIRAGANA": "hiragana", "KATAKANA": "katakana", "LATIN": "latin"}


def token_scripts(texts: Sequence[str], first: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Script of each token of a run, int8 [T]: an index into SCRIPTS, or NONE.

    Args:
        texts: of the documents.
        first: int [documents + 1], row of each document's first token.
        starts: int [T], first character of each token in its document.
        ends: int [T], the character after the last.
    """
    lengths = np.array([len(text) for text in texts], np.int64)
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    distinct, inverse = np.unique(points, return_inverse=True)
    scripts = np.array([_script(chr(point)) for point in distinct.tolist()], np.int8)[inverse]
    offset = np.repeat(np.concatenate([[0], np.cumsum(lengths)[:-1]]), np.diff(first))
    # Spaces belong to the word beside them: a token is of the one script of its other characters.
    bits = np.append(np.where(scripts == _SPACE, 0, 1 << scripts.astype(np.int32)), 0)
    spans = np.column_stack([offset + starts, offset + ends]).ravel()
    of_token = np.bitwise_or.reduceat(bits, spans)[::2] if len(spans) else bits[:0]
    covers = ends > starts
    script = np.full(len(starts), NONE, np.int8)
    for number in range(NONE):
        script[covers & (of_token == 1 << number)] = number
    script[covers & (of_token == 0)] = _SPACE
    return script


def _script(character: str) -> int:
    category = unicodedata.category(character)[0]
    name = unicodedata.name(character, "")
    if category == "N" and name.startswith("CJK"):
        category = "L"
    if category in _BY_CATEGORY and character != "ー":
        return SCRIPTS.index(_BY_CATEGORY[category])
    start = name.removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ").partition(" ")[0]
    return SCRIPTS.index(_NAMES[start]) if start in _NAMES else SCRIPTS.index("other")
