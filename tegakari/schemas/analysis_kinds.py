"""Kinds of stored analyses: name, settings and result of each."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from tegakari.schemas.circuit import CircuitResult, CircuitSettings
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings, SmallestSetResult, SmallestSetSettings
from tegakari.schemas.specificity import SpecificityResult, SpecificitySettings
from tegakari.schemas.study import StudyResult, StudySettings
from tegakari.schemas.variants import VariantsResult, VariantsSettings

S = TypeVar("S", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)


class AnalysisKind(NamedTuple, Generic[S, R]):
    """A kind of analysis whose results the store keeps."""

    name: str
    """directory below `analyses/`, and `kind` in analysis.json"""
    settings: type[S]
    """`settings` in analysis.json"""
    result: type[R]
    """content of result.json"""


KNOCKOUT_ANALYSIS = AnalysisKind("knockout", KnockoutSettings, KnockoutResult)
SMALLEST_SET_ANALYSIS = AnalysisKind("smallest-set", SmallestSetSettings, SmallestSetResult)
CIRCUIT_ANALYSIS = AnalysisKind("circuit", CircuitSettings, CircuitResult)
VARIANTS_ANALYSIS = AnalysisKind("variants", VariantsSettings, VariantsResult)
SPECIFICITY_ANALYSIS = AnalysisKind("specificity", SpecificitySettings, SpecificityResult)
STUDY_ANALYSIS = AnalysisKind("study", StudySettings, StudyResult)

ANALYSIS_KINDS: tuple[AnalysisKind[Any, Any], ...] = (
    KNOCKOUT_ANALYSIS,
    SMALLEST_SET_ANALYSIS,
    CIRCUIT_ANALYSIS,
    VARIANTS_ANALYSIS,
    SPECIFICITY_ANALYSIS,
    STUDY_ANALYSIS,
)
