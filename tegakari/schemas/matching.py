"""Matching: features that two runs share."""

from __future__ import annotations

import msgspec

CUTOFFS = (0.7, 0.8, 0.9)
"""Cosines and correlations from which two features count as shared."""

NO_MATCH_BELOW = 0.5
"""Correlation of its best match below which a feature is only in its run."""


class SharedFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """Pairs of features of two runs that are each other's best match, at one cut-off."""

    cutoff: float
    pairs: int


class LayerMatching(msgspec.Struct, frozen=True, kw_only=True):
    """Shared features of one layer of both runs."""

    layer: int
    active: list[int]
    """number of features of each run that are active in the shared documents"""
    by_correlation: list[SharedFeatures]
    """by Pearson's correlation of pooled activations over the shared documents"""
    by_cosine: list[SharedFeatures] | None
    """by the cosine of decoder directions; null if the runs have no comparable ones"""


class OnlyInOne(msgspec.Struct, frozen=True, kw_only=True):
    """Number of label-specific features that only one run has, of one label."""

    run: str
    label: str
    specific: int
    """features that carry this label and no other"""
    only: int
    """of these the features whose best match in the other run has a correlation below 0.5"""
    examples: list[str]
    """layer, feature and strongest tokens of those with the largest d"""


class MatchingResult(msgspec.Struct, frozen=True, kw_only=True):
    """Features of two runs, compared layer by layer."""

    runs: list[str]
    shared_documents: int
    no_cosine: str | None
    """why decoder directions were not compared; null if they were"""
    layers: list[LayerMatching]
    only: list[OnlyInOne]
    """by run and label"""
