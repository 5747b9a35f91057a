"""analysis.json, and the parts that the results of analyses share."""

from __future__ import annotations

from typing import Any

import msgspec

from tegakari.schemas.run import FileEntry, Fingerprint, RunName

ANALYSIS_FORMAT = 4
"""Version of the layout of an analysis; a reader refuses newer ones."""


class RunReference(msgspec.Struct, frozen=True, kw_only=True):
    """A run that an analysis is computed from."""

    run: RunName
    fingerprint: Fingerprint
    """hash of the run's classifier, SAEs, documents and settings"""


class AnalysisManifest(msgspec.Struct, frozen=True, kw_only=True):
    """analysis.json of a stored analysis."""

    format: int
    kind: str
    """name of an `AnalysisKind`"""
    key: str
    """hash of kind, runs and settings: equal keys give equal results."""
    runs: list[RunReference]
    settings: msgspec.Raw
    """settings as JSON, defaults filled in."""
    created: str
    """ISO 8601, UTC."""
    versions: dict[str, str]
    seconds: float
    """duration of the computation."""
    files: list[FileEntry]


class AnalysisRow(msgspec.Struct, frozen=True, kw_only=True):
    """A stored analysis in a list."""

    id: str
    """hash of kind, runs and settings"""
    kind: str
    """knockout, smallest-set, circuit, variants, specificity or study"""
    runs: list[str]
    """that it is computed from"""
    is_default: bool
    """whether its settings are the defaults: it is returned where no analysis is selected"""
    settings_text: str
    """settings that differ from the defaults, in words"""
    created: str
    """ISO 8601, UTC"""
    version: str
    """of tegakari, when it was computed"""
    seconds: float
    """duration of the computation"""
    size: int
    """of its files, in bytes"""


class AnalysisDetail(AnalysisRow, frozen=True, kw_only=True):
    """A stored analysis with its settings and its result."""

    versions: dict[str, str]
    """of the programs that computed it"""
    settings: dict[str, Any]
    """defaults filled in"""
    result: dict[str, Any]
    """of its kind: `tegakari.schemas.analysis_kinds.result_of` decodes it"""


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A value with its 95 % interval; docs/statistics.md says how each figure's is made and what it covers."""

    value: float
    low: float
    high: float


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs, versions and device of a computation, to repeat it."""

    run: str
    fingerprint: str
    classifier_sha256: str
    saes_sha256: str
    corpus_sha256: str
    dtype: str
    device: str
    versions: dict[str, str]
