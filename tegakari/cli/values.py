"""Values of options, checked before anything is opened or sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.schemas.errors import QueryError

if TYPE_CHECKING:
    from tegakari.access.source import Variety


def checked_pooling(pooling: str | None) -> Pooling | None:
    """A pooling by name; None: the run's.

    Raises:
        QueryError: no pooling has that name.
    """
    for name in POOLINGS:
        if pooling == name:
            return name
    if pooling is not None:
        raise QueryError(f"{pooling!r} is no pooling", field="pooling", fix=f"use one of: {', '.join(POOLINGS)}")
    return None


def checked_variety(variety: str | None) -> Variety | None:
    """A label variety as people write it: specific, shared, or a number.

    Raises:
        QueryError: it is none of these.
    """
    match variety:
        case None | "specific" | "shared":
            return variety
        case text if text.isascii() and text.isdigit() and len(text) < 7:
            return int(text)
        case _:
            raise QueryError(
                f"{variety!r} is no label variety", field="variety", fix="use specific, shared or a number"
            )
