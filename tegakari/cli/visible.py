"""Text of data as a terminal shows it: on one line, without characters that a terminal obeys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

OPEN, CLOSE = "⟦", "⟧"
"""Marks around a token in its context. In text of data they are written as escapes, so that no text looks marked."""
ELLIPSIS = "…"

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_WHOLE = re.compile(r"\\u27e[67]|[\d.,]*\d")
"""What is not cut in two: an escaped mark, a number."""


def visible(text: str) -> str:
    r"""Text on one line: a line feed is ⏎, a tab ⇥, another control character its picture or a replacement character.

    Marks of a context are escaped, as `\u27e6`.
    """
    text = text.replace("\r\n", "\n")
    text = _CONTROLS.sub(lambda match: _picture(match[0]), text)
    return text.replace(OPEN, "\\u27e6").replace(CLOSE, "\\u27e7")


def _picture(character: str) -> str:
    code = ord(character)
    if character in "\n\u2028\u2029":
        return "⏎"
    if character == "\t":
        return "⇥"
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "\ufffd"


def visible_token(token: str) -> str:
    """A token, in which spaces can be seen if there is nothing else."""
    return visible(token) if token.strip(" \u3000") else "␣" * max(1, cell_len(token))


def visible_tokens(tokens: Iterable[object]) -> str:
    """Tokens, separated by spaces."""
    return " ".join(visible_token(str(token).strip(" ") or str(token)) for token in tokens)


def shorten(text: str, width: int) -> str:
    """The beginning of a text in so many cells, ending in … where something is cut; a number is not cut in two."""
    if cell_len(text) <= width:
        return text
    end = cells = 0
    for character in text:
        cells += cell_len(character)
        if cells > width - 1:
            break
        end += 1
    end = next((whole.start() for whole in _WHOLE.finditer(text) if whole.start() < end < whole.end()), end)
    if end and not text[end].isspace() and text[end - 1].isascii() and text[end].isascii():
        space = text.rfind(" ", 0, end)
        end = space if cell_len(text[: space + 1]) > width // 2 else end
    return text[:end].rstrip() + ELLIPSIS if width > 0 else ""


def shorten_left(text: str, width: int) -> str:
    """The end of a text in so many cells, beginning with … where something is cut."""
    if cell_len(text) <= width:
        return text
    start, cells = len(text), 0
    while start and cells + cell_len(text[start - 1]) <= width - 1:
        start -= 1
        cells += cell_len(text[start])
    start = next((whole.end() for whole in _WHOLE.finditer(text) if whole.start() < start < whole.end()), start)
    return ELLIPSIS + text[start:].lstrip() if width > 0 else ""


class Context(NamedTuple):
    """A token in its context."""

    before: str
    token: str
    after: str

    def fit(self, width: int | None) -> Text:
        """The token between marks, with as much of the text around it as fits."""
        before, after = visible(self.before), visible(self.after)
        token = visible_token(self.token)
        if width is not None:
            token = shorten(token, width - 2)
            room = max(0, width - 2 - cell_len(token))
            right = min(cell_len(after), max(room // 2, room - cell_len(before)))
            before, after = shorten_left(before, room - right), shorten(after, right)
        return Text.assemble(before, (f"{OPEN}{token}{CLOSE}", "bold"), after)
