"""Text of data as a terminal shows it: on one line, without characters that a terminal obeys."""

from __future__ import annotations

import re
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from tegakari.analyses.visible_text import visible_text, visible_token

OPEN, CLOSE = "⟦", "⟧"
"""Marks around a token in its context. In text of data they are written as escapes, so that no text looks marked."""
ELLIPSIS = "…"

_WHOLE = re.compile(r"\\u27e[67]|[\d.,]*\d")
"""What is not cut in two: an escaped mark, a number."""


def visible(text: str) -> str:
    r"""Text on one line, as `visible_text`, with the marks of a context escaped, as `\u27e6`."""
    return _without_marks(visible_text(text))


def _without_marks(text: str) -> str:
    return text.replace(OPEN, "\\u27e6").replace(CLOSE, "\\u27e7")


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
        token = _without_marks(visible_token(self.token))
        if width is not None:
            token = shorten(token, width - 2)
            room = max(0, width - 2 - cell_len(token))
            right = min(cell_len(after), max(room // 2, room - cell_len(before)))
            before, after = shorten_left(before, room - right), shorten(after, right)
        return Text.assemble(before, (f"{OPEN}{token}{CLOSE}", "bold"), after)
