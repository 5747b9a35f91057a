"""Rows about stored analyses: settings in words, and whether they are the defaults."""

from __future__ import annotations

from collections.abc import Mapping

from tegakari.schemas.analysis import AnalysisRow
from tegakari.schemas.analysis_kinds import kind_named
from tegakari.schemas.run import RunManifest
from tegakari.store.results import Analysis, analysis_key, default_settings


def analysis_row(analysis: Analysis, published: Mapping[str, RunManifest]) -> AnalysisRow:
    """A row of the list of analyses.

    Args:
        analysis: stored.
        published: manifests of the published runs, by name.

    Raises:
        StoreError: its settings are damaged.
    """
    manifest, runs = analysis.manifest, runs_of(analysis, published)
    kind = kind_named(manifest.kind)
    defaults = default_settings(kind, runs) if kind and runs else None
    is_default = kind is not None and defaults is not None and analysis_key(kind, runs, defaults) == manifest.key
    return AnalysisRow(
        id=manifest.key,
        kind=manifest.kind,
        runs=[reference.run for reference in manifest.runs],
        is_default=is_default,
        settings_text=analysis.settings_text(defaults),
        created=manifest.created,
        version=manifest.versions.get("tegakari", ""),
        seconds=manifest.seconds,
        size=sum(file.size for file in manifest.files),
    )


def runs_of(analysis: Analysis, published: Mapping[str, RunManifest]) -> list[RunManifest]:
    """The runs that an analysis is computed from; empty if one of them is not published any more, or was replaced."""
    runs = []
    for reference in analysis.manifest.runs:
        run = published.get(reference.run)
        if run is None or run.fingerprint != reference.fingerprint:
            return []
        runs.append(run)
    return runs
