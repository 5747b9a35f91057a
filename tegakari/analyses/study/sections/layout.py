"""Parts of a section of the report, before they are written as HTML or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Grid(NamedTuple):
    """A table of text cells."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


class Picture(NamedTuple):
    """A figure."""

    caption: str
    svg: str
    """whole SVG document"""


class Section(NamedTuple):
    """One table or figure of the study, with what a reader needs to judge it."""

    title: str
    definition: str
    """what the figures are"""
    basis: str
    """what the figures are computed from: settings and counts"""
    grids: list[Grid]
    pictures: list[Picture]
    sentences: Sequence[str] = ()
    """a list below the basis"""


def per_run(texts: list[str]) -> str:
    """A sentence from one text per run."""
    return "; ".join(texts) + "."
