"""Specificity of a run: the labels that its features carry, beside what permuted labels give."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tegakari.schemas.analysis import Interval
from tegakari.schemas.api import Chance, HighD, LayerSpecificity
from tegakari.schemas.config import Pooling, Seed


class SpecificitySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the permutations, and of what counts as beyond chance."""

    permutations: Annotated[
        int, Meta(ge=20, le=10_000, description="permutations of the labels over the documents")
    ] = 200
    min_active: Annotated[
        int,
        Meta(
            ge=1,
            description="documents of its label in which a supported feature is active, and of any label in which a "
            "feature is active that is tested for significance",
        ),
    ] = 5
    fdr: Annotated[
        float, Meta(gt=0, lt=1, description="largest share of false ones among the significant features")
    ] = 0.05
    seed: Annotated[Seed, Meta(description="of the permutations")] = 0


class UnweightedVariety(msgspec.Struct, frozen=True, kw_only=True):
    """Label variety over all layers if d has the unweighted mean of both variances."""

    mean_variety: float
    specific: int
    """features with unweighted d above the threshold for one label"""
    shared: int
    """features with unweighted d above the threshold for two or more labels"""


class SpecificityResult(msgspec.Struct, frozen=True, kw_only=True):
    """Number of labels that features carry (the study, Table 2), by the run's pooling."""

    run: str
    settings: SpecificitySettings
    pooling: Pooling
    threshold: float
    """Cohen's d above which a feature carries a label"""
    documents: int
    labels: int
    features: int
    """number, over all layers"""
    mean_variety: Interval
    """mean number of labels per feature, which falls as documents are added; the interval is that of the value which
    other documents, as many per label, would give"""
    mean_variety_of_half: float
    """the same over half of the documents, mean over random halves: how much the number depends on their number"""
    weak: int
    """features that carry no label"""
    specific: int
    """features that carry one label"""
    shared: int
    """features that carry two or more labels"""
    high_d: list[HighD]
    """at several cut-offs, because the study does not define a high d"""
    unweighted: UnweightedVariety
    chance: Chance
    """over all layers"""
    warnings: list[str]
    """what is doubtful about the counts, as sentences"""
    layers: list[LayerSpecificity]
    """with `chance`"""
    seconds: float
