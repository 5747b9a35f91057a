"""Tables in the width of a terminal: columns become narrower or are left out, and no word or number is split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from tegakari.analyses.visible_text import visible_tokens
from tegakari.cli.visible import Context, shorten, visible

GAP = 2
"""Cells between two columns."""
MIN_TEXT = 14
"""Cells to which a column of text is shortened at most."""
MIN_CONTEXT = 40
"""The same of a token in its context."""

_FIGURE = re.compile(r"(?:[\d\s.,:+\-−±%→()/<>≥|]|\bto\b|\be[+-]?\d|\bof\b|\bnan\b)*")
"""A text of numbers, such as an interval: it is shown whole or not at all."""


class _Column:
    """A column: its heading and its cells."""

    def __init__(self, heading: str, values: Sequence[object]) -> None:
        self.heading = visible(heading)
        self.values = values
        self.texts = [value if isinstance(value, Context) else cell_text(value) for value in values]
        plain = [text for text in self.texts if isinstance(text, str)]
        self.right = all(map(is_number, values)) and bool(values)
        contexts = len(plain) < len(self.texts)
        self.body = max((_cells(text) for text in self.texts), default=0)
        figures = not contexts and all(map(_FIGURE.fullmatch, plain))
        least = self.body if figures else min(self.body, MIN_CONTEXT if contexts else MIN_TEXT)
        word = max((cell_len(word) for word in self.heading.split()), default=0)
        self.least = max(least, word)
        self.width = max(self.body, word)

    def heading_lines(self, width: int | None) -> list[str]:
        """The heading, broken between words."""
        return [self.heading] if width is None else wrap(self.heading, width)


class Layout(NamedTuple):
    """A table as lines, and the headings of the columns that did not fit."""

    lines: list[Text]
    left_out: list[str]


def table_layout(
    headings: Sequence[str], rows: Iterable[Sequence[object]], width: int | None, drop: Sequence[str] = ()
) -> Layout:
    """A table in so many cells.

    Args:
        headings: of the columns.
        rows: a value per column.
        width: cells of a line; None: as many as it takes.
        drop: headings of the columns that are left out first, in this order; then the rightmost column, and so on. The
            first column stays.
    """
    cells = list(rows)
    columns = [_Column(heading, [row[place] for row in cells]) for place, heading in enumerate(headings)]
    if width is None:
        return Layout(_lines(columns, [max(column.body, cell_len(column.heading)) for column in columns], None), [])
    shown = list(columns)
    order = [column for name in drop for column in columns if column.heading == name]
    order += [column for column in reversed(columns[1:]) if column not in order]
    while len(shown) > 1 and sum(column.least for column in shown) + GAP * (len(shown) - 1) > width:
        shown.remove(next(column for column in order if column in shown))
    left_out = [column.heading for column in columns if column not in shown]
    return Layout(_lines(shown, _widths(shown, width), width), left_out)


def _widths(columns: Sequence[_Column], width: int) -> list[int]:
    """Widths of the columns: the widest become narrower until all fit; headings have one line if all fit on one."""
    room = width - GAP * (len(columns) - 1)
    widths = [column.width for column in columns]
    while sum(widths) > room:
        narrowable = [place for place, column in enumerate(columns) if widths[place] > column.least]
        if not narrowable:
            widths[0] = max(1, widths[0] - (sum(widths) - room))  # the only column that is left
            break
        widths[max(narrowable, key=widths.__getitem__)] -= 1
    with_headings = [max(cells, cell_len(column.heading)) for cells, column in zip(widths, columns, strict=True)]
    return with_headings if sum(with_headings) <= room else widths


def _lines(columns: Sequence[_Column], widths: Sequence[int], width: int | None) -> list[Text]:
    headings = [column.heading_lines(width and cells) for column, cells in zip(columns, widths, strict=True)]
    depth = max(map(len, headings), default=0)
    padded = [[""] * (depth - len(lines)) + lines for lines in headings]
    lines = [_line(columns, widths, list(map(Text, line)), "bold") for line in zip(*padded, strict=True)]
    lines.append(Text((" " * GAP).join("─" * cells for cells in widths), "dim"))
    for row in zip(*(column.texts for column in columns), strict=True):
        shown = [
            text.fit(width and cells) if isinstance(text, Context) else Text(shorten(text, cells))
            for text, cells in zip(row, widths, strict=True)
        ]
        lines.append(_line(columns, widths, shown, ""))
    return lines


def _line(columns: Sequence[_Column], widths: Sequence[int], texts: Sequence[Text], style: str) -> Text:
    line = Text(style=style)
    for place, (column, cells, text) in enumerate(zip(columns, widths, texts, strict=True)):
        space = " " * max(0, cells - text.cell_len)
        line.append(" " * GAP if place else "")
        line.append_text(Text(space) + text if column.right else text + Text(space))
    line.rstrip()
    return line


def _cells(text: str | Context) -> int:
    return text.fit(None).cell_len if isinstance(text, Context) else cell_len(text)


def is_number(value: object) -> bool:
    """Whether a value stands at the right of its column."""
    if isinstance(value, str):
        return value.isdigit()
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def cell_text(value: object) -> str:
    """A value as text on one line: 1,234, 0.123, yes, -, tokens separated by spaces."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.3f}"
        case list():
            return visible(visible_tokens(map(str, value)))
        case _:
            return visible(str(value))


_EAST_ASIAN = r"\u3000-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef"
_PIECES = re.compile(rf"[{_EAST_ASIAN}]|[^\s{_EAST_ASIAN}]+|\s+")
"""Pieces between which a line may end: a Chinese or Japanese character, a word, spaces."""


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Text in lines of so many cells, broken between words; a longer word has a line of its own."""
    lines, line = [], ""
    for piece in _PIECES.findall(text):
        if line.strip() and cell_len(line) + cell_len(piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = indent
        line += piece if line.strip() or not lines else piece.lstrip()
    return [*lines, line.rstrip()]
