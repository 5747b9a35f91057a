"""Matching: features that two runs share."""

from __future__ import annotations

import msgspec

CUTOFFS = (0.7, 0.8, 0.9)
"""Cosines and correlations from which two features count as shared."""

NO_MATCH_BELOW = 0.5
"""Correlation of its best match below which a feature is only in its run."""

NEAR_START = 0.9
"""Cosine to its initial direction above which a feature counts as not moved."""

NULL_PERCENTILE = 99.0
"""Percentile of the best cosines of independent directions that a shared pair must exceed."""

SAME_NUMBER_SHARE = 0.2
"""Share of the pairs by cosine with equal feature numbers above which the SAEs began alike. Independent SAEs number
their features at random: their share is about 1 / d_sae."""


class CorrelatedPairs(msgspec.Struct, frozen=True, kw_only=True):
    """Pairs of features of two runs that are each other's best match by correlation, at one cut-off."""

    cutoff: float
    pairs: int
    by_chance: int
    """the same number with the documents of one run permuted"""


class SharedDirections(msgspec.Struct, frozen=True, kw_only=True):
    """Pairs of features of two runs that are each other's best match by cosine, at one cut-off."""

    cutoff: float
    pairs: int
    """with a cosine of at least the cut-off, and above the layer's null"""


class StartDistance(msgspec.Struct, frozen=True, kw_only=True):
    """How far the decoder directions of a layer moved from their initial directions."""

    mean_cosine: float
    """cosine of each direction to its initial direction, mean over all features"""
    near_start: float
    """share of the features with a cosine above 0.9, which say little about the classifier"""


class LayerMatching(msgspec.Struct, frozen=True, kw_only=True):
    """Shared features of one layer of both runs."""

    layer: int
    active: list[int]
    """number of features of each run that are active in the shared documents"""
    by_correlation: list[CorrelatedPairs]
    """by Pearson's correlation of pooled activations over the shared documents"""
    by_cosine: list[SharedDirections] | None
    """by the cosine of decoder directions; null if `no_cosine` says why"""
    cosine_null: float | None
    """99th percentile of the best cosine of a direction among independent ones, of equal number and dimension"""
    no_cosine: str | None
    """why no pairs by cosine are counted; null if they are"""
    moved: list[StartDistance | None]
    """of each run; null for SAEs whose initial directions are not known"""


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
    """why decoder directions were compared in no layer; null if they were"""
    layers: list[LayerMatching]
    only: list[OnlyInOne]
    """by run and label"""
