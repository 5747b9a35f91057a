"""Filters of lists, as people and programs write them."""

from __future__ import annotations

from typing import Literal, TypedDict

from tegakari.schemas.config import Pooling
from tegakari.schemas.errors import QueryError

Variety = Literal["specific", "shared"] | int
"""Filter on label variety: exactly 1, at least 2, or exactly the number."""


FeatureOrder = Literal["feature", "density", "max_activation", "variety", "cohens_d"]
"""Order of features: by layer and feature, or by a figure, largest first."""


EffectOrder = Literal["largest", "smallest"]
"""Order of label effects: largest first, or smallest, which are the most negative."""


class LabelFeatureFilters(TypedDict, total=False):
    """Which features of a label are listed; None: no filter."""

    layer: int | None
    """only this layer"""
    pooling: Pooling | None
    """pooling of the activations that Cohen's d compares; None: the run's"""
    min_cohens_d: float | None
    """minimum Cohen's d"""
    variety: Variety | None
    """"specific": features that carry this label alone, with d above the run's threshold; "shared": this label and
    others; or a number of labels, this one among them (0: features that carry no label)"""
    onset: bool | None
    """also give onset tokens and tokens by lift"""


class FeatureFilters(TypedDict, total=False):
    """Which features of a run are listed, and in which order; None: no filter."""

    layer: int | None
    """only this layer"""
    token: str | None
    """only features with this token among their top tokens, whatever its case and surrounding spaces"""
    variety: Variety | None
    """label variety by the run's pooling"""
    min_density: float | None
    """minimum share of positions on which the feature is active"""
    max_density: float | None
    """maximum share of positions on which the feature is active"""
    min_cohens_d: float | None
    """minimum Cohen's d for the label of largest d"""
    order: FeatureOrder | None
    """None: by layer and feature"""
    onset: bool | None
    """also give onset tokens and tokens by lift"""


def parse_variety(text: str) -> Variety:
    """Parse a filter on label variety: specific, shared, or a number.

    Raises:
        QueryError: it is none of these.
    """
    if text == "specific":
        return "specific"
    if text == "shared":
        return "shared"
    if text.isascii() and text.isdigit() and len(text) < 7:
        return int(text)
    raise QueryError(f"{text!r} is not a label variety", field="variety", fix="use specific, shared or a number")
