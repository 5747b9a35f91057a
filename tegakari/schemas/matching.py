"""Which features two runs share."""

from __future__ import annotations

import msgspec

CUTOFFS = (0.7, 0.8, 0.9)
"""Cosine or correlation from which two features count as one."""

NO_MATCH_BELOW = 0.5
"""Correlation of its best match below which a feature is only in its run."""


class SharedFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """Features of two runs that are each other's best match."""

    cutoff: float
    pairs: int


class LayerMatching(msgspec.Struct, frozen=True, kw_only=True):
    """Of one layer of both runs."""

    layer: int
    active: list[int]
    """features of each run that are active in the shared documents"""
    by_correlation: list[SharedFeatures]
    """Pearson's, of pooled activations over the shared documents"""
    by_cosine: list[SharedFeatures] | None
    """of decoder directions; null where the runs have no comparable ones"""


class OnlyInOne(msgspec.Struct, frozen=True, kw_only=True):
    """Label-specific features that only one run has."""

    run: str
    label: str
    specific: int
    """features that carry the label alone"""
    only: int
    """of them those whose best match in the other run correlates below 0.5"""
    examples: list[str]
    """layer, feature and strongest tokens of the first of them by d"""


class MatchingResult(msgspec.Struct, frozen=True, kw_only=True):
    """Features of two runs, layer against the same layer."""

    runs: list[str]
    shared_documents: int
    no_cosine: str | None
    """why directions were not compared"""
    layers: list[LayerMatching]
    only: list[OnlyInOne]
    """by run and label"""
