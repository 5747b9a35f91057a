"""Kinds of stored analyses: name, settings, result and default settings of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from tegakari.schemas.analysis import AnalysisDetail
from tegakari.schemas.circuit import CircuitResult, CircuitSettings
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings, SmallestSetResult, SmallestSetSettings
from tegakari.schemas.specificity import SpecificityResult, SpecificitySettings
from tegakari.schemas.study import StudyResult, StudySettings
from tegakari.schemas.variants import DEFAULT_CONCEPTS_SHA256, VariantsResult, VariantsSettings, default_sizes

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
    defaults: Callable[[int], S] | None = None
    """its settings where none are given, from the number of features of the smallest layer of its runs; None: some have
    no default, such as the label of a knockout"""


def _circuit_defaults(_features: int) -> CircuitSettings:
    return CircuitSettings()


def _specificity_defaults(_features: int) -> SpecificitySettings:
    return SpecificitySettings()


def _variants_defaults(features: int) -> VariantsSettings:
    return VariantsSettings(concepts_sha256=DEFAULT_CONCEPTS_SHA256, ks=default_sizes(features))


def _study_defaults(features: int) -> StudySettings:
    return StudySettings(concepts_sha256=DEFAULT_CONCEPTS_SHA256, ks=default_sizes(features))


KNOCKOUT_ANALYSIS = AnalysisKind("knockout", KnockoutSettings, KnockoutResult)
SMALLEST_SET_ANALYSIS = AnalysisKind("smallest-set", SmallestSetSettings, SmallestSetResult)
CIRCUIT_ANALYSIS = AnalysisKind("circuit", CircuitSettings, CircuitResult, _circuit_defaults)
VARIANTS_ANALYSIS = AnalysisKind("variants", VariantsSettings, VariantsResult, _variants_defaults)
SPECIFICITY_ANALYSIS = AnalysisKind("specificity", SpecificitySettings, SpecificityResult, _specificity_defaults)
STUDY_ANALYSIS = AnalysisKind("study", StudySettings, StudyResult, _study_defaults)

ANALYSIS_KINDS: tuple[AnalysisKind[Any, Any], ...] = (
    KNOCKOUT_ANALYSIS,
    SMALLEST_SET_ANALYSIS,
    CIRCUIT_ANALYSIS,
    VARIANTS_ANALYSIS,
    SPECIFICITY_ANALYSIS,
    STUDY_ANALYSIS,
)


def kind_named(name: str) -> AnalysisKind[Any, Any] | None:
    """The kind with a name; None if there is none."""
    return next((kind for kind in ANALYSIS_KINDS if kind.name == name), None)


def result_of(analysis: AnalysisDetail) -> msgspec.Struct:
    """The result of an analysis as the struct of its kind, such as `KnockoutResult`.

    Raises:
        msgspec.ValidationError: it is of another version of tegakari.
    """
    kind = kind_named(analysis.kind)
    if kind is None:
        raise msgspec.ValidationError(f"{analysis.kind!r} is not a kind of analysis")
    return msgspec.convert(analysis.result, kind.result)
