"""Sentences of language models: what is accepted as an explanation, and why the rest is not."""

from __future__ import annotations

import re
import unicodedata
from typing import TypeVar

import msgspec

from tegakari.analyses.explanations.endpoint import Answer
from tegakari.schemas.decoding import decode_json
from tegakari.store.explanations import one_line

MAX_ANSWER = 8_000
"""Characters of an answer; a longer one is refused, whatever is in it."""
MAX_SENTENCE = 300
"""Characters of an explanation; of a longer one the first sentences stay."""

EXPLANATION_SCHEMA = {
    "type": "object",
    "properties": {"explanation": {"type": "string", "minLength": 1, "maxLength": MAX_SENTENCE}},
    "required": ["explanation"],
    "additionalProperties": False,
}

T = TypeVar("T", bound=msgspec.Struct)

_THOUGHT = re.compile(r"^.*</think>", re.DOTALL)
_FENCE = re.compile(r"^```[a-z]*\n(.*)\n```$", re.DOTALL)
_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_KANA = re.compile("[\u3041-\u30ff]")
_JAPANESE = re.compile("[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
_QUOTED = re.compile("「[^」]*」|『[^』]*』|\"[^\"]*\"|“[^”]*”|'[^']*'|\\([^)]*\\)|（[^）]*）")


class RefusedError(Exception):
    """An answer is no explanation; the message is the reason."""


class _Explained(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    explanation: str


def sentence_of(answer: Answer, language: str) -> str:
    """The explanation in an answer: one line in the language, of bounded length.

    Raises:
        RefusedError: the answer is too long, of another shape or language, or has no text.
    """
    text = one_line(json_of(answer, _Explained).explanation)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RefusedError("it has half of a surrogate pair") from None
    if len(text) > MAX_SENTENCE:
        text = _first_sentences(text)
    if not any(unicodedata.category(letter)[0] in "LN" for letter in text):
        raise RefusedError("it has no words")
    if not is_in_language(text, language):
        raise RefusedError(f"it is not in the language {language}: {text[:80]}")
    return text


def json_of(answer: Answer, kind: type[T]) -> T:
    """The JSON object in an answer: alone, in a code fence, or behind the thoughts of a reasoning model.

    Raises:
        RefusedError: there is none of this shape.
    """
    content = answer.content.strip()
    if len(content) > MAX_ANSWER:
        raise RefusedError(f"it has {len(content):,} characters, more than {MAX_ANSWER:,}")
    content = _THOUGHT.sub("", content).strip()
    if fenced := _FENCE.match(content):
        content = fenced[1]
    try:
        return decode_json(content, kind)
    except msgspec.DecodeError as error:
        if answer.cut:
            raise RefusedError("it was cut at the limit of its tokens") from None
        raise RefusedError(f"it is not the JSON asked for: {error}") from None


def _first_sentences(text: str) -> str:
    """As many whole sentences as fit.

    Raises:
        RefusedError: the first one alone is too long.
    """
    kept = ""
    for sentence in _END.split(text):
        longer = f"{kept} {sentence}" if kept and kept[-1].isascii() else kept + sentence
        if len(longer) > MAX_SENTENCE:
            break
        kept = longer
    if not kept:
        raise RefusedError(f"its first sentence is longer than {MAX_SENTENCE} characters")
    return kept


def is_in_language(text: str, language: str) -> bool:
    """Whether the script of a text is that of a language; quoted words may be of any.

    Japanese has kana. English has more Latin letters than Japanese ones, and more ASCII letters than others: another
    language in the same script passes.
    """
    plain = _QUOTED.sub("", unicodedata.normalize("NFKC", text))
    if language == "ja":
        return bool(_KANA.search(plain))
    letters = [letter for letter in plain if letter.isalpha()]
    ascii_letters = sum(letter.isascii() for letter in letters)
    return not letters or ascii_letters > len(letters) / 2
