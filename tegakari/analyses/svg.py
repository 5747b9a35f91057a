"""Figures as SVG: equal data give equal bytes, and labels stay text, so that the viewer's fonts show any script."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width
from xml.dom import minidom

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#3566a8", "#c8553d", "#4c8c4a", "#8a5fa8", "#b58b1b", "#5a5a5a")
"""Colors of runs, in order."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tegakari",
    "font.family": ["Noto Sans CJK JP", "Noto Sans JP", "Hiragino Sans", "Yu Gothic", "Meiryo", "sans-serif"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
}

_HREF, _URL = re.compile(r"(?<=^#).+"), re.compile(r"(?<=url\(#)[^)]+")
"""The id in the value of an attribute that refers to it: `href="#id"`, `clip-path="url(#id)"`."""


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A new figure and its axes: one, or an array of [rows, columns] without dimensions of size 1.

    The figure is not registered with pyplot, which keeps figures forever and shares them between threads.

    Args:
        width: in inches.
        height: in inches.
        rows: rows of axes.
        columns: columns of axes.
        options: of `Figure.subplots`.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        return figure, figure.subplots(rows, columns, **options)


def to_svg(figure: Figure) -> str:
    """A figure as an SVG document without a date; every id in it is unique."""
    from matplotlib import rc_context

    document = StringIO()
    with rc_context(_STYLE), warnings.catch_warnings():
        # A missing font only means that text is measured with another one; the viewer has its own fonts.
        warnings.filterwarnings("ignore", message=".*missing from font")
        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
        figure.savefig(document, format="svg", metadata={"Date": None, "Creator": None})
    return with_unique_ids(document.getvalue())


def with_unique_ids(text: str, prefix: str = "e") -> str:
    """Number the ids of an SVG document and rewrite the references to them.

    Matplotlib makes the id of an image from a hash of its pixels, so two equal heat maps share an id. A reference to a
    shared id leads to the first element that had it, as in a browser.

    Args:
        text: a whole SVG document.
        prefix: start of every id. Documents share no id if each has a prefix of its own that ends in no digit.
    """
    document = minidom.parseString(text)
    elements = document.getElementsByTagName("*")
    numbered: dict[str, str] = {}
    for number, element in enumerate(element for element in elements if element.hasAttribute("id")):
        numbered.setdefault(element.getAttribute("id"), f"{prefix}{number}")
        element.setAttribute("id", f"{prefix}{number}")
    for element in elements:
        for name, value in element.attributes.items():
            reference = _HREF if name.endswith("href") else _URL
            element.setAttribute(name, reference.sub(lambda match: numbered.get(match[0], match[0]), value))
    return document.toxml()


def save_svg(figure: Figure, path: Path) -> None:
    """Write a figure to an SVG file."""
    path.write_text(to_svg(figure), encoding="utf-8")


def legend_below(figure: Figure, axes: Axes, handles: Sequence[Any] | None = None) -> None:
    """Put the legend of axes below the figure, where it covers nothing.

    Args:
        figure: has a constrained layout, which makes room for the legend.
        axes: have the labelled artists.
        handles: artists of the legend; default: the labelled ones of the axes.
    """
    handles = axes.get_legend_handles_labels()[0] if handles is None else handles
    if not handles:
        return
    widest = max(text_width(str(handle.get_label()), _LEGEND_SIZE) for handle in handles) + 4 * _LEGEND_SIZE
    columns = min(len(handles), max(1, int(72 * figure.get_figwidth() / widest)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=_LEGEND_SIZE, frameon=False)


_LEGEND_SIZE = 8


def text_width(text: str, size: float) -> float:
    """Width of text in points, at most, whatever the viewer's font: wide characters are one em, others 0.65.

    Args:
        text: on one line.
        size: of the font, in points.
    """
    return size * sum(1.0 if east_asian_width(character) in "WFA" else 0.65 for character in text)


def zero_line(axes: Axes) -> None:
    """Draw a vertical line at 0."""
    axes.axvline(0, color="#999999", linewidth=0.8)
