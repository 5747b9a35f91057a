"""Parameters of queries: validation and defaults."""

from __future__ import annotations

import math

from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.schemas.filters import Variety
from tegakari.store.blocks.ranking import ANY_VARIETY
from tegakari.store.reader import Run

MAX_PAGE = 1000
"""Largest number of rows per page."""


def check_pooling(run: Run, pooling: str | None) -> Pooling:
    """The pooling with this name; None: the run's pooling.

    Raises:
        QueryError: there is no such pooling.
    """
    if pooling is None:
        return run.manifest.pooling
    for name in POOLINGS:
        if pooling == name:
            return name
    raise QueryError(f"{pooling!r} is not a pooling", field="pooling", fix=f"use one of: {', '.join(POOLINGS)}")


def check_layer(run: Run, layer: int) -> None:
    """Refuse a layer for which the run has no SAE.

    Raises:
        NotFoundError: lists the indexed layers.
    """
    if layer not in run.manifest.saes.layers:
        layers = ", ".join(map(str, run.manifest.saes.layers))
        raise NotFoundError(f"run {run.name!r} has no layer {layer}", field="layer", fix=f"indexed layers: {layers}")


def layers_of(run: Run, layer: int | None) -> list[int]:
    """The layer alone; None: all layers of the run.

    Raises:
        NotFoundError: the run has no such layer.
    """
    if layer is None:
        return run.manifest.saes.layers
    check_layer(run, layer)
    return [layer]


def feature_place(run: Run, layer: int, feature: int) -> int:
    """Number of a feature among the features of all layers.

    Raises:
        NotFoundError: the run has no such layer, or the layer no such feature.
    """
    check_layer(run, layer)
    places = run.blocks.places.slice_of(layer)
    width = places.stop - places.start
    if not 0 <= feature < width:
        raise NotFoundError(
            f"layer {layer} has features 0 to {width - 1}, not {feature}",
            field="feature",
            fix=f"use a number from 0 to {width - 1}",
        )
    return places.start + feature


def check_range(name: str, value: int, minimum: int, maximum: int, *, fix: str = "ask for fewer") -> None:
    """Refuse a number that is out of range.

    Raises:
        QueryError: names the parameter and its range.
    """
    if not minimum <= value <= maximum:
        raise QueryError(f"{value} is not from {minimum} to {maximum}", field=name, fix=fix)


def check_limit(limit: int) -> None:
    """Refuse a page that is empty or too large.

    Raises:
        QueryError: not from 1 to MAX_PAGE.
    """
    check_range("limit", limit, 1, MAX_PAGE, fix="page with `cursor` for more")


def check_finite(name: str, value: float | None) -> None:
    """Refuse infinity and NaN.

    Raises:
        QueryError: names the parameter.
    """
    if value is not None and not math.isfinite(value):
        raise QueryError(f"{value} is not a number", field=name, fix="give a finite number")


def variety_range(variety: Variety | None) -> tuple[int, int]:
    """Smallest and largest label variety that a filter passes."""
    match variety:
        case None:
            return ANY_VARIETY
        case "specific":
            return 1, 1
        case "shared":
            return 2, ANY_VARIETY[1]
        case number:
            return int(number), int(number)
