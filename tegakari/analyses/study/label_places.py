"""Places for the labels of points in a figure, so that no label covers another one or a point."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle, in points."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: Box) -> bool:
        """Whether the rectangles have an area in common."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def is_inside(self, other: Box) -> bool:
        """Whether the other rectangle contains this one."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.bottom >= other.bottom
            and self.top <= other.top
        )


_DIRECTIONS = 16
_STEP = 4.0
"""Distance between the rings of places around a point, in points."""


def label_places(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], bounds: Box, radius: float
) -> list[Box | None]:
    """A place for each label, the nearest free one around its point; None where none is free.

    Args:
        points: centres of the marks, in points.
        sizes: width and height of each label.
        bounds: rectangle that the labels stay in.
        radius: of the marks.
    """
    marks = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in points]
    placed: list[Box] = []
    places: list[Box | None] = []
    for (x, y), (width, height) in zip(points, sizes, strict=True):
        free = (
            box
            for box in _around(x, y, width, height, radius, bounds)
            if box.is_inside(bounds) and not any(map(box.overlaps, marks)) and not any(map(box.overlaps, placed))
        )
        place = next(free, None)
        places.append(place)
        placed += [place] if place else []
    return places


def _around(x: float, y: float, width: float, height: float, radius: float, bounds: Box) -> Iterator[Box]:
    """Boxes around a point: to the right first, counter-clockwise, in growing rings."""
    for ring in range(int(max(bounds.right - bounds.left, bounds.top - bounds.bottom) / _STEP)):
        for direction in range(_DIRECTIONS):
            angle = 2 * math.pi * direction / _DIRECTIONS
            away = radius + 2 + ring * _STEP
            middle_x = x + math.cos(angle) * (away + width / 2)
            middle_y = y + math.sin(angle) * (away + height / 2)
            yield Box(middle_x - width / 2, middle_y - height / 2, middle_x + width / 2, middle_y + height / 2)
