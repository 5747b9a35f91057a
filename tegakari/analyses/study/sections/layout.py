"""Parts of a section of the report, before they are written as HTML, Markdown or CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from tegakari.analyses.formatting import MISSING, decimal, interval
from tegakari.analyses.study.pages import Linked
from tegakari.schemas.analysis import Interval


class Excerpt(NamedTuple):
    """A token with the text around it."""

    before: str
    token: str
    after: str


Value = str | int | float | Interval | Linked | Excerpt | None
"""Value of a cell; None: there is none."""


def plain_text(value: Any) -> str:
    """A value as text: intervals and floats with three decimals."""
    match value:
        case None:
            return MISSING
        case Linked():
            return value.text
        case Interval():
            return interval(value)
        case float():
            return decimal(value, 3)
        case _:
            return str(value)


def with_decimals(digits: int, *, signed: bool = False) -> Callable[[Any], str]:
    """A function that writes numbers and intervals with this many decimals."""

    def text(value: float | Interval | None) -> str:
        if value is None:
            return MISSING
        ends = (value.value, value.low, value.high) if isinstance(value, Interval) else (value,)
        first, *others = (decimal(end, digits, signed=signed) for end in ends)
        return f"{first} ({' to '.join(others)})" if others else first

    return text


class Column(NamedTuple):
    """A column of a table."""

    heading: str
    run: str = ""
    """name of the run, or runs, whose values it has; neighbours of one run share a heading"""
    text: Callable[[Any], str] = plain_text
    """writes a value in the report; a CSV file has the value itself"""
    prose: bool = False
    """whether its cells are sentences, which may break"""
    once: bool = False
    """whether a value is written once where the rows below have the same one, in the columns before as well"""

    @property
    def name(self) -> str:
        """Run and heading on one line."""
        return f"{self.run}: {self.heading}" if self.run else self.heading


class Grid(NamedTuple):
    """A table."""

    name: str
    """of its CSV file; a report has it once"""
    columns: tuple[Column, ...]
    rows: list[tuple[Value, ...]]

    def column_groups(self) -> list[tuple[str, int]]:
        """Runs of neighbouring columns with their number; empty if no column is of one run."""
        groups: list[tuple[str, int]] = []
        for column in self.columns:
            if groups and groups[-1][0] == column.run:
                groups[-1] = (column.run, groups[-1][1] + 1)
            else:
                groups.append((column.run, 1))
        return groups if any(run for run, _ in groups) else []

    def first_columns(self) -> set[int]:
        """Columns in which the values of another run begin, or end."""
        runs = [column.run for column in self.columns]
        return {number for number in range(1, len(runs)) if runs[number] != runs[number - 1]}

    def shown_rows(self) -> list[tuple[Value, ...]]:
        """Rows without the values of `once` columns that stand in the row above."""
        shown, above = [], ()
        for row in self.rows:
            same = 0
            while same < len(row) and self.columns[same].once and above and above[same] == row[same]:
                same += 1
            shown.append(("",) * same + row[same:])
            above = row
        return shown


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
    page: Linked | None = None
    """page of the explorer with the same subject"""


def plain(*headings: str) -> tuple[Column, ...]:
    """Columns of no run."""
    return tuple(map(Column, headings))


def of_run(run: str, columns: Iterable[Column | str]) -> tuple[Column, ...]:
    """Columns of a run."""
    return tuple(
        column._replace(run=run) if isinstance(column, Column) else Column(column, run=run) for column in columns
    )


def per_run(texts: list[str]) -> str:
    """A sentence from one text per run."""
    return "; ".join(texts) + "."
