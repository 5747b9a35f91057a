"""Results of analyses, stored beside the runs that they are computed from: `analyses/<kind>/<key>/`, whole or absent.

Runs are immutable, so an analysis of a published run gets a directory of its own. The key of an analysis is the hash of
its kind, its runs and its settings; a repeated request returns the stored result.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from tegakari.schemas.analysis import ANALYSIS_FORMAT, AnalysisManifest, RunReference
from tegakari.schemas.analysis_kinds import ANALYSIS_KINDS, AnalysisKind, kind_named
from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import NotFoundError, StoreError
from tegakari.schemas.run import RunManifest
from tegakari.schemas.tables import Table
from tegakari.store.column_types import arrow_schema
from tegakari.store.disk.contents import check_contents, read_bounded
from tegakari.store.disk.durable import (
    bury,
    checksums,
    random_suffix,
    staged_directory,
    translate_disk_full,
)
from tegakari.store.disk.layout import analyses_directory, analysis_directory, entries, work_directory, work_root
from tegakari.store.settings_text import settings_text

MANIFEST = "analysis.json"
RESULT = "result.json"

MAX_MANIFEST = 256 * 2**20
"""Maximum size of analysis.json in bytes; its settings can contain texts."""
MAX_RESULT = 2**30
"""Maximum size of result.json in bytes."""

NAMED_IDS = 5
"""Stored analyses that the error of a missing one names."""

S = TypeVar("S", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)

log = structlog.get_logger()


class Analysis:
    """A stored analysis."""

    def __init__(self, directory: Path) -> None:
        """Read analysis.json.

        Raises:
            StoreError: it is missing, damaged or of a newer format, or the directory contains a link.
        """
        self.directory = directory
        self.manifest = _read_manifest(directory)
        if (self.manifest.kind, self.manifest.key) != (directory.parent.name, directory.name):
            raise _damaged(directory, ValueError("it is stored under another kind or key"))
        check_contents(directory)

    def result(self, kind: AnalysisKind[Any, R]) -> R:
        """The result, decoded.

        Args:
            kind: the analysis's kind.

        Raises:
            StoreError: the file is missing or damaged.
        """
        try:
            return decode_json(self.result_json(), kind.result)
        except msgspec.DecodeError as error:
            raise _damaged(self.directory, error) from None

    def settings_text(self, defaults: msgspec.Struct | None) -> str:
        """Its settings in words: those that differ from the defaults of its runs.

        Raises:
            StoreError: the settings are damaged.
        """
        kind = kind_named(self.manifest.kind)
        return settings_text(self.settings_object(), kind and kind.settings, defaults)

    def result_json(self) -> str:
        """The result, as it is stored.

        Raises:
            StoreError: the file is missing or damaged.
        """
        try:
            return read_bounded(self.directory / RESULT, MAX_RESULT).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _damaged(self.directory, error) from None

    def settings(self, kind: AnalysisKind[S, Any]) -> S:
        """The settings, decoded.

        Args:
            kind: the analysis's kind.

        Raises:
            StoreError: they are damaged.
        """
        try:
            return decode_json(bytes(self.manifest.settings), kind.settings)
        except msgspec.DecodeError as error:
            raise _damaged(self.directory, error) from None

    def settings_object(self) -> dict[str, Any]:
        """The settings as a JSON object.

        Raises:
            StoreError: they are damaged.
        """
        try:
            return decode_json(bytes(self.manifest.settings), dict[str, Any])
        except msgspec.DecodeError as error:
            raise _damaged(self.directory, error) from None

    def result_object(self) -> dict[str, Any]:
        """The result as a JSON object.

        Raises:
            StoreError: the file is missing or damaged.
        """
        try:
            return decode_json(self.result_json(), dict[str, Any])
        except msgspec.DecodeError as error:
            raise _damaged(self.directory, error) from None

    def table(self, table: Table) -> pa.Table:
        """Rows of one of its tables.

        Raises:
            StoreError: the file is missing or damaged.
        """
        try:
            with pq.ParquetFile(self.directory / f"{table.name}.parquet", page_checksum_verification=True) as file:
                schema, rows = file.schema_arrow, file.read()
        except (OSError, pa.ArrowException) as error:
            raise _damaged(self.directory, error) from None
        if not schema.equals(arrow_schema(table)):
            raise _damaged(self.directory, ValueError(f"{table.name} has other columns"))
        return rows


def analysis_key(kind: AnalysisKind[S, Any], runs: Sequence[RunManifest], settings: S) -> str:
    """Key of an analysis: 32 hexadecimal digits of the SHA-256 of kind, runs and settings.

    A run contributes its name, which results contain, and its fingerprint.
    """
    identity = [kind.name, ANALYSIS_FORMAT, [(run.run, run.fingerprint) for run in runs], settings]
    return hashlib.sha256(msgspec.json.encode(identity, order="sorted")).hexdigest()[:32]


def find_analysis(store: Path, kind: AnalysisKind[S, Any], runs: Sequence[RunManifest], settings: S) -> Analysis | None:
    """The stored analysis of these runs with these settings; None if there is none."""
    return _analysis_in(analysis_directory(store, kind.name, analysis_key(kind, runs, settings)))


def analysis_by_key(store: Path, kind: AnalysisKind[Any, Any], key: str) -> Analysis | None:
    """The stored analysis with this key; None if there is none, or if `key` is not a key."""
    return _analysis_in(analysis_directory(store, kind.name, key)) if re.fullmatch("[0-9a-f]{32}", key) else None


def analysis_with_id(store: Path, id_: str) -> Analysis:
    """The stored analysis with an id, of any kind.

    Raises:
        NotFoundError: there is none.
        StoreError: it is damaged.
    """
    for kind in ANALYSIS_KINDS:
        if analysis := analysis_by_key(store, kind, id_):
            return analysis
    raise NotFoundError(f"no analysis {id_!r}", field="id", fix="the list of analyses shows the ids")


def _analysis_in(directory: Path) -> Analysis | None:
    return Analysis(directory) if (directory / MANIFEST).is_file() else None


def stored_analyses(
    store: Path, *, kind: AnalysisKind[Any, Any] | None = None, run: RunManifest | None = None
) -> Iterator[Analysis]:
    """Stored analyses by kind, newest first; damaged ones and those of another format are logged and left out.

    Args:
        store: the store's directory.
        kind: only analyses of this kind.
        run: only analyses of this run, as it is published now.
    """
    root = analyses_directory(store)
    kinds = [kind.name] if kind else [entry.name for entry in entries(root)]
    for name in kinds:
        analyses, other_formats = [], 0
        for directory in entries(root / name):
            try:
                analysis = _analysis_in(directory)
            except StoreError as error:  # a damaged analysis must not hide the others
                if _is_of_other_format(directory):  # after an upgrade all are: one line about them
                    other_formats += 1
                else:
                    log.warning("analysis left out", kind=name, key=directory.name, reason=error.message)
                continue
            except FileNotFoundError:  # deleted meanwhile
                continue
            if analysis:
                analyses.append(analysis)
        if other_formats:
            log.info("analyses of another format left out", kind=name, number=other_formats, format=ANALYSIS_FORMAT)
        analyses.sort(key=lambda analysis: (analysis.manifest.created, analysis.manifest.key), reverse=True)
        for analysis in analyses:
            if run is None or RunReference(run=run.run, fingerprint=run.fingerprint) in analysis.manifest.runs:
                yield analysis


def selected_result(store: Path, kind: AnalysisKind[S, R], runs: Sequence[RunManifest], id_: str | None = None) -> R:
    """The result with the default settings, or the one that an id selects.

    Args:
        store: the store's directory.
        kind: of the analysis; it has default settings.
        runs: runs that it is computed from, in its order.
        id_: of a stored analysis of this kind and these runs; None: the default settings.

    Raises:
        NotFoundError: it is not stored; the fix names those that are.
        StoreError: the result is damaged.
    """
    if id_ is None:
        defaults = default_settings(kind, runs)
        analysis = None if defaults is None else find_analysis(store, kind, runs, defaults)
    else:
        analysis = analysis_by_key(store, kind, id_)
        if analysis is not None and analysis.manifest.runs != _references(runs):
            analysis = None
    if analysis is None:
        raise _not_stored(store, kind, runs, id_)
    return analysis.result(kind)


def default_settings(kind: AnalysisKind[S, Any], runs: Sequence[RunManifest]) -> S | None:
    """Settings of an analysis of these runs where none are given; None: its kind has none."""
    return kind.defaults(min(min(run.saes.widths) for run in runs)) if kind.defaults else None


def _references(runs: Sequence[RunManifest]) -> list[RunReference]:
    return [RunReference(run=run.run, fingerprint=run.fingerprint) for run in runs]


def _not_stored(
    store: Path, kind: AnalysisKind[Any, Any], runs: Sequence[RunManifest], id_: str | None
) -> NotFoundError:
    """The error of a result that is not stored, with those of the same runs that are."""
    names = ",".join(run.run for run in runs)
    stored = [
        f"{analysis.manifest.key} ({analysis.settings_text(default_settings(kind, runs))})"
        for analysis in stored_analyses(store, kind=kind, run=runs[0])
        if analysis.manifest.runs == _references(runs)
    ]
    options = " ".join(f"--run {run.run}" for run in runs)
    command = f"compute it with `tegakari {kind.name} {options}`"
    more = f", and {len(stored) - NAMED_IDS} more" if len(stored) > NAMED_IDS else ""
    choice = f"select a stored one with `analysis`: {', '.join(stored[:NAMED_IDS])}{more}"
    of_runs = f"of run {names!r}" if len(runs) == 1 else f"of runs {names!r}"
    if id_ is not None:
        return NotFoundError(f"no {kind.name} {id_!r} {of_runs}", field="analysis", fix=choice if stored else command)
    return NotFoundError(
        f"no {kind.name} {of_runs} with the default settings is stored",
        field="analysis" if stored else "run" if len(runs) == 1 else "runs",
        fix=f"{command}, or {choice}" if stored else command,
    )


def publish_analysis(
    store: Path,
    kind: AnalysisKind[S, R],
    runs: Sequence[RunManifest],
    settings: S,
    result: R,
    tables: Mapping[Table, pa.Table],
    *,
    seconds: float,
    versions: Mapping[str, str],
) -> Analysis:
    """Store an analysis: staged, checksummed, flushed, then published with one rename.

    If another process has published the same analysis meanwhile, that one stays and is returned.

    Args:
        store: the store's directory.
        kind: kind of the analysis.
        runs: the runs that it is computed from.
        settings: its settings, defaults filled in.
        result: its result.
        tables: its tables, rows in each table's order.
        seconds: duration of the computation.
        versions: versions of the programs that computed it.

    Raises:
        DiskFullError: no space; nothing is published.
    """
    key = analysis_key(kind, runs, settings)
    target = analysis_directory(store, kind.name, key)
    staging = staged_directory(target, work_directory(store, f"analysis-{key}-{random_suffix()}"))
    with translate_disk_full(store, field="store"), _first_publication(target), staging as staged:
        (staged / RESULT).write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
        for table, rows in tables.items():
            path = staged / f"{table.name}.parquet"
            pq.write_table(rows.cast(arrow_schema(table)), path, compression="zstd", write_page_checksum=True)
        manifest = AnalysisManifest(
            format=ANALYSIS_FORMAT,
            kind=kind.name,
            key=key,
            runs=_references(runs),
            settings=msgspec.Raw(msgspec.json.encode(settings)),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=dict(versions),
            seconds=seconds,
            files=checksums(staged, exclude=MANIFEST),
        )
        (staged / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return Analysis(target)


@contextmanager
def _first_publication(target: Path) -> Iterator[None]:
    """Keep the analysis at `target` if another process publishes the same one first."""
    try:
        yield
    except FileExistsError:
        if not (target / MANIFEST).is_file():
            raise


def delete_analysis(store: Path, analysis: Analysis) -> None:
    """Take an analysis out of sight with one rename, then remove its files."""
    bury(analysis.directory, work_root(store))


def _read_manifest(directory: Path) -> AnalysisManifest:
    try:
        manifest = decode_json(read_bounded(directory / MANIFEST, MAX_MANIFEST), AnalysisManifest)
    except (OSError, msgspec.DecodeError) as error:
        raise _damaged(directory, error) from None
    if manifest.format != ANALYSIS_FORMAT:
        raise StoreError(
            f"analysis {directory.name} has format {manifest.format}, this program reads {ANALYSIS_FORMAT}",
            field="analysis",
            fix="upgrade tegakari"
            if manifest.format > ANALYSIS_FORMAT
            else f"delete {directory} and run the analysis again",
        )
    return manifest


class _FormatOnly(msgspec.Struct):
    format: int


def _is_of_other_format(directory: Path) -> bool:
    try:
        return decode_json(read_bounded(directory / MANIFEST, MAX_MANIFEST), _FormatOnly).format != ANALYSIS_FORMAT
    except (OSError, msgspec.DecodeError):
        return False


def _damaged(directory: Path, error: Exception) -> StoreError:
    return StoreError(
        f"analysis {directory.parent.name}/{directory.name} is damaged: {error}",
        field="analysis",
        fix=f"delete {directory} and run the analysis again",
    )
