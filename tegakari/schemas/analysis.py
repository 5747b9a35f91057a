"""What is computed on finished runs: analysis.json, and what all results of analyses share."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from tegakari.schemas.run import FileEntry

ANALYSIS_FORMAT = 1
"""Version of the layout of an analysis; a reader refuses a larger one."""


class AnalysisKind(StrEnum):
    """Kinds of stored analyses: name of the directory below `analyses/` in a store, and part of an analysis' key."""

    KNOCKOUT = "knockout"
    SMALLEST_SET = "smallest-set"
    CIRCUIT = "circuit"
    VARIANTS = "variants"
    STUDY = "study"


class RunReference(msgspec.Struct, frozen=True, kw_only=True):
    """A run that an analysis was made on."""

    run: str
    fingerprint: str
    """of the run's classifier, SAEs, documents and settings."""


class AnalysisManifest(msgspec.Struct, frozen=True, kw_only=True):
    """analysis.json of a stored analysis."""

    format: int
    kind: str
    """knockout, circuit, cues, ..."""
    key: str
    """hash of kind, runs and settings: equal keys give equal results."""
    runs: list[RunReference]
    settings: msgspec.Raw
    """what was asked, defaults filled in; JSON."""
    created: str
    """ISO 8601, UTC."""
    versions: dict[str, str]
    seconds: float
    """time it took to compute."""
    files: list[FileEntry]


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A figure with its 95 % interval, from 2,000 bootstrap samples."""

    value: float
    low: float
    high: float


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Run, models and program versions that a result was computed with."""

    run: str
    fingerprint: str
    classifier_sha256: str
    saes_sha256: str
    corpus_sha256: str
    dtype: str
    device: str
    versions: dict[str, str]
