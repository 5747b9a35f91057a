"""Parameters of queries: validation and defaults."""

from __future__ import annotations

from typing import Literal, TypeVar

from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.schemas.errors import CursorError, NotFoundError, QueryError
from tegakari.store.reader import Run

T = TypeVar("T")


Variety = Literal["specific", "shared"] | int
"""Label variety asked for: exactly 1, at least 2, or exactly the number."""


MAX_PAGE = 1000


def check_pooling(run: Run, pooling: str | None) -> Pooling:
    """The pooling asked for, or the run's own.

    Raises:
        QueryError: there is no such pooling.
    """
    chosen = pooling or run.manifest.pooling
    for known in POOLINGS:
        if chosen == known:
            return known
    raise QueryError(f"{pooling!r} is no pooling", field="pooling", fix=f"use one of: {', '.join(POOLINGS)}")


def check_layer(run: Run, layer: int) -> None:
    """Refuse a layer that the run has no SAE for.

    Raises:
        NotFoundError: with the layers there are.
    """
    if layer not in run.manifest.saes.layers:
        there = ", ".join(map(str, run.manifest.saes.layers))
        raise NotFoundError(f"run {run.name!r} has no layer {layer}", field="layer", fix=f"indexed layers: {there}")


def place_of(run: Run, layer: int, feature: int) -> int:
    """Number of a feature among those of all layers.

    Raises:
        NotFoundError: the layer, which the run has, has no such feature.
    """
    where = run.blocks.places.slice_of(layer)
    if not 0 <= feature < where.stop - where.start:
        raise NotFoundError(
            f"layer {layer} has features 0 to {where.stop - where.start - 1}, not {feature}",
            field="feature",
            fix="choose one of those",
        )
    return where.start + feature


def check_place(run: Run, place: int | None) -> None:
    """Refuse a cursor that points at no feature of the run.

    Raises:
        CursorError: it was made up.
    """
    if place is not None and not 0 <= place < sum(run.manifest.saes.widths):
        raise CursorError("not a cursor of this list", field="cursor", fix="use `next` of the page before, unchanged")


def check_limit(limit: int) -> None:
    """Refuse a page that is empty or too large.

    Raises:
        QueryError: not from 1 to MAX_PAGE.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise QueryError(f"{limit} is not from 1 to {MAX_PAGE}", field="limit", fix="page with `cursor` for more")


def parse_variety(text: str) -> Variety:
    """Read a variety as people write it: specific, shared, or a number.

    Raises:
        QueryError: it is none of these.
    """
    if text == "specific":
        return "specific"
    if text == "shared":
        return "shared"
    if text.isascii() and text.isdigit() and len(text) < 7:
        return int(text)
    raise QueryError(f"{text!r} is no label variety", field="variety", fix="use specific, shared or a number")


def variety_range(variety: Variety | None) -> tuple[int, int]:
    """Least and largest label variety of those asked for."""
    unbounded = 2**31 - 1
    match variety:
        case None:
            return 0, unbounded
        case "specific":
            return 1, 1
        case "shared":
            return 2, unbounded
        case number:
            return int(number), int(number)
