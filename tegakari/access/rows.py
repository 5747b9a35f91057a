"""Rows of a query: a sequence in Python, a table in a notebook, a data frame on request."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownParameterType=false, reportUnknownArgumentType=false
# Arrow and pandas ship no types.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

import msgspec

from tegakari.access.html import table
from tegakari.client.frames import polars_frame
from tegakari.schemas.api import Page

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

T = TypeVar("T")

PREVIEW_ROWS = 10
"""Rows in the text and HTML form."""


class Listing(Protocol[T]):
    """A list that is read page by page: `tegakari.client.Pages`, or `LocalPages` of a directory."""

    def __iter__(self) -> Iterator[T]: ...

    def page(self, cursor: str | None = None) -> Page[T]: ...

    def to_arrow(self) -> pa.Table: ...


class Rows(Sequence[T], Generic[T]):
    """Rows of a query, fetched when they are needed and then kept.

    Iterating, slicing and `rows[0]` fetch as many pages as they need; `len(rows)` and the data frames fetch all.
    """

    def __init__(self, title: str, listing: Listing[T]) -> None:
        """Nothing is fetched yet.

        Args:
            title: heading of the text and HTML form.
            listing: the pages.
        """
        self._title = title
        self._listing = listing
        self._pending = iter(listing)
        self._rows: list[T] = []

    def _fetch(self, n: int | None) -> list[T]:
        """The first n rows, fewer if there are fewer; None: all."""
        missing = None if n is None else max(0, n - len(self._rows))
        self._rows.extend(islice(self._pending, missing))
        return self._rows if n is None else self._rows[:n]

    def __iter__(self) -> Iterator[T]:
        position = 0
        while len(self._fetch(position + 1)) > position:
            yield self._rows[position]
            position += 1

    def __len__(self) -> int:
        return len(self._fetch(None))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        last = index.stop if isinstance(index, slice) else index + 1
        forward = last is not None and last > 0 and not (isinstance(index, slice) and (index.start or 0) < 0)
        return self._fetch(last if forward else None)[index]

    def to_dicts(self) -> list[dict[str, Any]]:
        """All rows as dictionaries of plain Python values."""
        return msgspec.to_builtins(self._fetch(None))

    def to_arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        return self._listing.to_arrow()

    def to_pandas(self) -> pd.DataFrame:
        """All rows as a pandas data frame; pandas must be installed."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> pl.DataFrame:
        """All rows as a polars data frame; polars must be installed."""
        return polars_frame(self.to_arrow())

    def _preview(self) -> tuple[list[dict[str, Any]], bool]:
        """The first rows, and whether there are more."""
        rows = self._fetch(PREVIEW_ROWS + 1)
        return msgspec.to_builtins(rows[:PREVIEW_ROWS]), len(rows) > PREVIEW_ROWS

    def __repr__(self) -> str:
        rows, more = self._preview()
        lines = [self._title, *("  " + "  ".join(f"{k}={_short(v)}" for k, v in row.items()) for row in rows)]
        return "\n".join([*lines, "  ..."] if more else lines)

    def to_html(self) -> str:
        """The first rows as an HTML table."""
        rows, more = self._preview()
        return table(self._title, rows, more=more)

    def _repr_html_(self) -> str:
        return self.to_html()


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else repr(value)
