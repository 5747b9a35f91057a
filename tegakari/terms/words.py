"""Words and marks of texts, cut as the search index of a run cuts them, as integers per document."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from tegakari.store.vectors import TOKENIZER

MAX_WORD = 40
"""Characters of a word; a longer one is left out, as the search index leaves it out."""

_MODIFIERS = ("M", "Cf", "Sk")
"""Categories of characters that change the one before: marks, joiners, skin tones."""

_surface = attrgetter("text")

_JOINER = "\u200d"
_REPEATED = re.compile(r"(.{1,8}?)\1+", re.DOTALL)


class CorpusWords(NamedTuple):
    """Words of all documents, document after document: W words in parallel arrays, and the distinct forms."""

    forms: list[str]
    """distinct forms (`form_of`), by word id"""
    surfaces: list[str]
    """each form as it is first written"""
    occurrences: np.ndarray
    """int64 [forms]: how often each form occurs"""
    first: np.ndarray
    """int64 [documents + 1]: row of each document's first word; the last entry is W."""
    form: np.ndarray
    """int32 [W]: word id"""
    start: np.ndarray
    """int32 [W]: first character in the document"""
    end: np.ndarray
    """int32 [W]: the character after the last"""
    joined: np.ndarray
    """bool [W]: whether the next word of the document follows without a gap or after one space."""


def available() -> bool:
    """Whether LanceDB is installed in a version that cuts texts by itself."""
    try:
        _tokenizer()
    except ImportError:
        return False
    return True


@lru_cache(maxsize=1)
def _tokenizer() -> Callable[..., Iterable[object]]:
    from lancedb import tokenize

    return tokenize


def cut(text: str) -> list[tuple[int, int]]:
    """First character, and the character after the last, of each word and mark of a text, in its order.

    Words are those of the search index (`store/vectors.py`): the segments of ICU, whose dictionary knows Japanese. What
    the index leaves out, punctuation and emoji, are marks: one character and what modifies it, or a run of equal ones.
    """
    spans: list[tuple[int, int]] = []
    end = 0
    for word in _surfaces(text):
        start = text.find(word, end)
        if start > end:
            spans += [(end + first, end + last) for first, last in _marks(text[end:start])]
        end = start + len(word)
        if len(word) <= MAX_WORD:
            spans.append((start, end))
    if end < len(text):
        spans += [(end + first, end + last) for first, last in _marks(text[end:])]
    return spans


def _surfaces(text: str) -> list[str]:
    """Words of a text as they are written in it, in order."""
    tokens = _tokenizer()(
        text,
        base_tokenizer=TOKENIZER,
        stem=False,
        remove_stop_words=False,
        lower_case=False,
        ascii_folding=False,
        max_token_length=None,
    )
    return list(map(_surface, tokens))


@lru_cache(maxsize=65536)
def _marks(gap: str) -> tuple[tuple[int, int], ...]:
    """Spans of the marks of a text between two words."""
    spans: list[tuple[int, int]] = []
    for index, character in enumerate(gap):
        category = unicodedata.category(character)
        follows = bool(spans) and spans[-1][1] == index
        if follows and (category.startswith(_MODIFIERS) or gap[index - 1] == _JOINER or character == gap[spans[-1][0]]):
            spans[-1] = (spans[-1][0], index + 1)
        elif not category.startswith(("Z", "C", "M")):
            spans.append((index, index + 1))
    return tuple(spans)


@lru_cache(maxsize=262144)
def form_of(word: str) -> str:
    """Form of a word without differences of width and case (NFKC, case folding); a run of one mark is that mark."""
    form = unicodedata.normalize("NFKC", word).casefold()
    if any(character.isalnum() for character in form):
        return form
    repeated = _REPEATED.fullmatch(form)
    return repeated[1] if repeated else form


class _Numbers(dict[str, int]):
    """Word id of each word as it is written; that of a new one is the id of its form."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: dict[str, int] = {}
        self.surfaces: list[str] = []

    def __missing__(self, surface: str) -> int:
        number = self[surface] = self.forms.setdefault(form_of(surface), len(self.forms))
        if number == len(self.surfaces):
            self.surfaces.append(surface)
        return number


def corpus_words(texts: Sequence[str]) -> CorpusWords:
    """Cut the documents of a run; about half a microsecond per character."""
    numbers = _Numbers()
    lengths = np.zeros(len(texts), np.int64)
    form: list[int] = []
    spans: list[tuple[int, int]] = []
    for number, text in enumerate(texts):
        of_text = cut(text)
        lengths[number] = len(of_text)
        form += [numbers[text[start:end]] for start, end in of_text]
        spans += of_text
    bounds = np.fromiter(chain.from_iterable(spans), np.int32, 2 * len(spans)).reshape(-1, 2)
    start, end = np.ascontiguousarray(bounds[:, 0]), np.ascontiguousarray(bounds[:, 1])
    first = np.concatenate([[0], np.cumsum(lengths)])
    forms = np.array(form, np.int32)
    return CorpusWords(
        forms=list(numbers.forms),
        surfaces=numbers.surfaces,
        occurrences=np.bincount(forms, minlength=len(numbers.forms)).astype(np.int64),
        first=first,
        form=forms,
        start=start,
        end=end,
        joined=_joined(texts, first, start, end),
    )


def _joined(texts: Sequence[str], first: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Whether the next word of the document follows without a gap or after one space, bool [W]."""
    characters = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    offset = np.concatenate([[0], np.cumsum([len(text) for text in texts])])[:-1]
    gap = np.append(start[1:] - end[:-1], -1)[: len(start)]
    joined = gap == 0
    rows = np.flatnonzero(gap == 1)
    behind = np.repeat(offset, np.diff(first))[rows] + end[rows]
    joined[rows] = characters[np.minimum(behind, len(characters) - 1)] == ord(" ")
    joined[first[1:][np.diff(first) > 0] - 1] = False  # the last word of a document
    return joined


def written(words: Sequence[str]) -> str:
    """Words that follow each other, as one string: Latin letters and digits with spaces between them."""
    text = ""
    for word in words:
        text += " " * (text[-1:].isascii() and text[-1:].isalnum() and word[:1].isascii() and word[:1].isalnum()) + word
    return text


def forms_of(text: str) -> list[str]:
    """Forms of the words and marks of a text, in order."""
    return [form_of(text[start:end]) for start, end in cut(text)]
