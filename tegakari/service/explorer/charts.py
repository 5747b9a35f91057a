"""Pictures as SVG elements: bars by layer, histograms and heat maps; colours come from the style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

HEIGHT = 96
VALUE = 14
"""Height above the bars for their values."""
BAR = 22
GAP = 4
AXIS = 16


class Bar(NamedTuple):
    """A bar of parts, one above the other."""

    name: str
    """below the bar"""
    parts: Sequence[float]
    """heights, from below"""
    title: str
    """shown when the pointer is on the bar, and read by screen readers"""
    value: str = ""
    """above the bar"""


class Cell(NamedTuple):
    """A cell of a heat map."""

    share: float
    """-1 to 1 of the largest value; its sign gives the colour"""
    title: str
    marked: bool = False
    """with a border"""


def bars(title: str, bars: Sequence[Bar], *, classes: Sequence[str] = ("bar-1", "bar-2", "bar-3")) -> Markup:
    """A chart of stacked bars.

    Args:
        title: of the picture, for screen readers.
        bars: from left to right.
        classes: style of each part.
    """
    largest = max((sum(bar.parts) for bar in bars), default=0) or 1
    width = len(bars) * (BAR + GAP) + GAP
    elements = []
    for place, bar in enumerate(bars):
        x, top = GAP + place * (BAR + GAP), VALUE + HEIGHT
        rectangles = []
        for value, name in zip(bar.parts, classes, strict=False):
            height = round(max(value, 0) / largest * HEIGHT, 2)
            top -= height
            rectangles.append(
                Markup('<rect x="{}" y="{}" width="{}" height="{}" class="{}"/>').format(
                    x, round(top, 2), BAR, height, name
                )
            )
        elements.append(
            Markup("<g><title>{}</title>{}{}{}</g>").format(
                bar.title,
                Markup().join(rectangles),
                _tick(x + BAR / 2, VALUE + HEIGHT + AXIS - 4, bar.name),
                _tick(x + BAR / 2, round(top - 3, 2), bar.value) if bar.value else "",
            )
        )
    return _svg(title, width, VALUE + HEIGHT + AXIS, elements)


def histogram(title: str, edges: Sequence[float], groups: Sequence[Sequence[int]], names: Sequence[str]) -> Markup:
    """A histogram of groups, one above the other.

    Args:
        title: for screen readers.
        edges: of the bins; one more than bins.
        groups: counts per bin of each group.
        names: of the groups.
    """
    rows = []
    for place in range(len(edges) - 1):
        counts = [group[place] for group in groups]
        parts = ", ".join(f"{name} {number:,}" for name, number in zip(names, counts, strict=True))
        label = f"{edges[place]:.2g}" if place % 4 == 0 else ""
        rows.append(Bar(label, counts, f"{edges[place]:.3g} – {edges[place + 1]:.3g}: {parts}"))
    return bars(title, rows)


def heat_map(title: str, rows: Sequence[tuple[str, Sequence[Cell]]], columns: Sequence[str]) -> Markup:
    """A heat map.

    Args:
        title: for screen readers.
        rows: name and cells of each row.
        columns: names of the columns.
    """
    left, size = 88, BAR
    elements = []
    for number, (name, cells) in enumerate(rows):
        y = AXIS + number * (size + 2)
        elements.append(Markup('<text x="{}" y="{}" class="row-name">{}</text>').format(left - 8, y + size - 7, name))
        for place, cell in enumerate(cells):
            elements.append(
                Markup(
                    '<rect x="{}" y="{}" width="{}" height="{}" class="cell {}{}" fill-opacity="{}">'
                    "<title>{}</title></rect>"
                ).format(
                    left + place * (size + 2),
                    y,
                    size,
                    size,
                    "negative" if cell.share < 0 else "positive",
                    " marked" if cell.marked else "",
                    round(0.06 + 0.94 * min(abs(cell.share), 1), 3),
                    cell.title,
                )
            )
    for place, name in enumerate(columns):
        x = left + place * (size + 2) + size / 2
        elements.append(_tick(x, AXIS - 4, name))
    width = left + len(columns) * (size + 2)
    return _svg(title, width, AXIS + len(rows) * (size + 2), elements)


def share_bar(share: float, title: str, ends: tuple[float | None, float | None] = (None, None)) -> Markup:
    """A bar whose length is a share from 0 to 1, with a line from one end of its interval to the other."""
    low, high = (None if end is None else _percent(end) for end in ends)
    line = (
        Markup()
        if low is None or high is None
        else Markup('<rect x="{}" y="3" width="{}" height="2" class="ends"/>').format(low, round(high - low, 1))
    )
    return Markup(
        '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{}"><title>{}</title>'
        '<rect width="100" height="8" class="track"/><rect width="{}" height="8" class="bar-1"/>{}</svg>'
    ).format(title, title, _percent(share), line)


def _tick(x: float, y: float, text: str) -> Markup:
    return Markup('<text x="{}" y="{}" class="tick">{}</text>').format(x, y, text)


def _percent(share: float) -> float:
    return round(100 * min(max(share, 0), 1), 1)


def _svg(title: str, width: float, height: float, elements: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="picture" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}">{}</svg>'
    ).format(escape(title), width, height, width, height, Markup().join(elements))
