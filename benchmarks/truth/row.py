"""One line of the table that `make bench-truth` prints."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """Share of simulated samples in which a statement holds, with the bounds that it should be in."""

    figure: str
    """what the statement is about: an interval, a null, a headline"""
    case: str
    """truth and size of the samples"""
    value: float
    """share of the samples, 0 to 1"""
    at_least: float | None
    at_most: float | None
    n: int
    """number of samples"""
