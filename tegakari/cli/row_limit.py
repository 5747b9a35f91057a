"""The rows of a list that a command shows, and what it says about the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from tegakari.cli.options import MAX_ROWS
from tegakari.cli.output import print_cut
from tegakari.schemas.api import Page

T = TypeVar("T")


class Pages(Protocol[T]):
    """A list of a directory or a service, read page by page."""

    def page(self, cursor: str | None = None) -> Page[T]: ...
    def __iter__(self) -> Iterator[T]: ...


def first_rows(pages: Callable[[int], Pages[T]], k: int, every: bool, cursor: str | None) -> Page[T]:
    """The first k rows of a list, or those after a cursor, or all.

    Args:
        pages: gives the list in pages of so many rows.
        k: the `-k` of the command.
        every: its `--all`.
        cursor: its `--cursor`.
    """
    if not every:
        return pages(k).page(cursor)
    return Page(list(pages(MAX_ROWS))) if cursor is None else _rest(pages(MAX_ROWS), cursor)


def _rest(pages: Pages[T], cursor: str | None) -> Page[T]:
    rows: list[T] = []
    while cursor is not None:
        page = pages.page(cursor)
        rows += page.items
        cursor = page.next
    return Page(rows)


def nearest_rows(rows: Callable[[int], Pages[T]], k: int) -> tuple[list[T], bool]:
    """The k nearest rows of a list that has no pages, and whether there are more."""
    found = list(rows(min(k + 1, MAX_ROWS)))
    return found[:k], len(found) > k


def print_rest(page: Page[T], k: int) -> None:
    """That a list has more rows than the page, and which options show them."""
    if page.next:
        more = f"-k {min(2 * max(k, 25), MAX_ROWS)} or --all shows more, --json has the cursor of the next"
        print_cut(len(page.items), None, more)
