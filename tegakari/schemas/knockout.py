"""Knockouts: what is asked, and what came of it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tegakari.schemas.config import Pooling


class KnockoutSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which features of which layer are taken out of the documents of which label."""

    label: str
    layer: Annotated[int, Meta(ge=0)]
    k: Annotated[int, Meta(ge=0, le=1000)] = 20
    """features of the layer with the largest d for the label."""
    pooling: Pooling
    """of the d that chooses them."""
    mode: Literal["error_preserving", "reconstruction"] = "error_preserving"
    positions: Literal["all", "last"] = "all"
    draws: Annotated[int, Meta(ge=0, le=100)] = 5
    """random sets of as many features, for comparison."""
    seed: int = 0


class RemovedFeature(msgspec.Struct, frozen=True, kw_only=True):
    """A feature that was taken out."""

    layer: int
    feature: int
    d: float


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """The same with random features that are active in the corpus and were not taken out."""

    recalls: list[float]
    """of each draw"""
    delta_mean: float
    """points"""
    delta_sd: float
    """points, ddof 1; 0 for a single draw"""


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """Where documents go that were predicted as the label before and are not after."""

    label: str
    documents: int


class KnockoutResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a label's documents. Recall is their share that is predicted as the label."""

    run: str
    settings: KnockoutSettings
    features: list[RemovedFeature]
    documents: int
    recall_before: float
    recall_after: float
    delta: float
    """points of recall: 100 * (after - before)"""
    delta_low: float
    """lower end of its 95 % interval: 2,000 paired bootstrap samples of the documents"""
    delta_high: float
    control: Control | None
    recall_reconstructed: float | None
    """in reconstruction mode, with nothing taken out: what reconstruction alone costs; null in the other"""
    lost: list[Destination]
    gained: int
    """documents predicted as the label after and not before"""
