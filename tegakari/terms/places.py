"""Places of tokens in their documents: the one that the head reads, the first, the last, behind punctuation."""

from __future__ import annotations

from typing import get_args

import numpy as np

from tegakari.schemas.explanations import Place
from tegakari.terms.scripts import PUNCTUATION

PLACES: tuple[Place, ...] = get_args(Place)


def token_places(first: np.ndarray, covers: np.ndarray, script: np.ndarray, head: str) -> np.ndarray:
    """Whether tokens stand in each of PLACES, bool [T, PLACES].

    Args:
        first: int [documents + 1], row of each document's first token.
        covers: bool [T], whether a token has characters; only such a token is the first or the last.
        script: int8 [T], index into SCRIPTS.
        head: position that the classification head reads: first, last or all, which is none.
    """
    token = np.arange(len(covers))
    document = np.searchsorted(first, token, side="right") - 1
    start, end = first[document], first[document + 1] - 1
    before = np.concatenate([[0], np.cumsum(covers)])
    of_head = {"first": token == start, "last": token == end}.get(head, np.zeros(len(token), bool))
    leading = covers & (before[token] == before[start])
    trailing = covers & (before[token + 1] == before[end + 1])
    after = np.append(False, script[:-1] == PUNCTUATION)[: len(token)] & (token > start)
    return np.column_stack([of_head, leading, trailing, after])
