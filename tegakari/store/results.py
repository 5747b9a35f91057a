"""Results of analyses beside the runs they were made on: `analyses/<kind>/<key>/`, whole or absent.

Runs are immutable, so what is computed on a finished run does not go into it. The key of an analysis is the hash of
what was asked of which runs; the same question again finds the answer here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from tegakari.schemas.analysis import ANALYSIS_FORMAT, AnalysisManifest, RunReference
from tegakari.schemas.errors import StoreError
from tegakari.schemas.run import RunManifest
from tegakari.schemas.tables import Table
from tegakari.store.disk.durable import (
    bury,
    checksums,
    random_suffix,
    staged_directory,
    translate_disk_full,
)
from tegakari.store.disk.layout import analyses_directory, analysis_directory, work_directory, work_root

MANIFEST = "analysis.json"
RESULT = "result.json"

T = TypeVar("T")

log = structlog.get_logger()


class Analysis:
    """A stored analysis."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifest = _read_manifest(directory)

    def result(self, type_: type[T]) -> T:
        """The result, as the struct it was stored from.

        Raises:
            StoreError: the file is damaged.
        """
        try:
            return msgspec.json.decode(self.result_json(), type=type_)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _damaged(self.directory, error) from None

    def result_json(self) -> str:
        """The result as it was written.

        Raises:
            StoreError: the file is missing or damaged.
        """
        try:
            return (self.directory / RESULT).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _damaged(self.directory, error) from None

    def table(self, table: Table) -> pa.Table:
        """One of its tables.

        Raises:
            StoreError: the file is missing or damaged.
        """
        try:
            return pq.read_table(self.directory / f"{table.name}.parquet", page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            raise _damaged(self.directory, error) from None


def analysis_key(kind: str, runs: Sequence[RunManifest], settings: msgspec.Struct) -> str:
    """Name of an analysis: 32 hexadecimal digits of the SHA-256 of kind, fingerprints and settings.

    The names of the runs are part of it, because results name their runs.
    """
    asked = [kind, ANALYSIS_FORMAT, [(run.run, run.fingerprint) for run in runs], settings]
    return hashlib.sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()[:32]


def find_analysis(store: Path, kind: str, runs: Sequence[RunManifest], settings: msgspec.Struct) -> Analysis | None:
    """The stored answer to a question, if there is one."""
    directory = analysis_directory(store, kind, analysis_key(kind, runs, settings))
    return Analysis(directory) if (directory / MANIFEST).is_file() else None


def analysis_by_key(store: Path, kind: str, key: str) -> Analysis | None:
    """The stored answer of that name, whatever was asked; None for what is no name."""
    directory = analysis_directory(store, kind, key)
    return Analysis(directory) if re.fullmatch("[0-9a-f]{32}", key) and (directory / MANIFEST).is_file() else None


def stored_analyses(store: Path, *, kind: str | None = None, run: RunManifest | None = None) -> Iterator[Analysis]:
    """Stored analyses, by kind, newest first; only those made on a run as it is now, if one is given."""
    root = analyses_directory(store)
    kinds = [kind] if kind else sorted(entry.name for entry in root.iterdir()) if root.is_dir() else []
    for name in kinds:
        found = []
        for file in (root / name).glob(f"*/{MANIFEST}"):
            try:
                found.append(Analysis(file.parent))
            except StoreError as error:  # a damaged one must not hide the others
                log.warning("analysis left out", kind=name, key=file.parent.name, reason=error.message)
        found.sort(key=lambda analysis: (analysis.manifest.created, analysis.manifest.key), reverse=True)
        for analysis in found:
            if run is None or RunReference(run=run.run, fingerprint=run.fingerprint) in analysis.manifest.runs:
                yield analysis


def publish_analysis(
    store: Path,
    kind: str,
    runs: Sequence[RunManifest],
    settings: msgspec.Struct,
    result: msgspec.Struct,
    tables: Mapping[Table, pa.Table],
    *,
    seconds: float,
    versions: Mapping[str, str],
) -> Analysis:
    """Store an analysis: everything is written aside, checksummed and flushed, then shown with one rename.

    Args:
        store: the store's directory.
        kind: of the analysis; the directory it lies in.
        runs: what it was made on.
        settings: what was asked, defaults filled in.
        result: the answer.
        tables: its tables, rows in each table's order.
        seconds: how long it took.
        versions: of the programs that computed it.

    Raises:
        DiskFullError: no space; nothing is shown.
    """
    key = analysis_key(kind, runs, settings)
    target = analysis_directory(store, kind, key)
    staging = staged_directory(target, work_directory(store, f"analysis-{key}-{random_suffix()}"))
    with translate_disk_full(store, field="store"), _first_publication(target), staging as staged:
        (staged / RESULT).write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
        for table, rows in tables.items():
            path = staged / f"{table.name}.parquet"
            pq.write_table(rows.cast(table.schema), path, compression="zstd", write_page_checksum=True)
        manifest = AnalysisManifest(
            format=ANALYSIS_FORMAT,
            kind=kind,
            key=key,
            runs=[RunReference(run=run.run, fingerprint=run.fingerprint) for run in runs],
            settings=msgspec.Raw(msgspec.json.encode(settings)),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=dict(versions),
            seconds=seconds,
            files=checksums(staged, exclude=MANIFEST),
        )
        (staged / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return Analysis(target)


def delete_analysis(store: Path, analysis: Analysis) -> None:
    """Take an analysis out of sight with one rename, then remove its files."""
    bury(analysis.directory, work_root(store))


@contextmanager
def _first_publication(target: Path) -> Iterator[None]:
    """Keep the analysis at `target` if another process publishes the same one first."""
    try:
        yield
    except FileExistsError:
        if not (target / MANIFEST).is_file():
            raise


def _read_manifest(directory: Path) -> AnalysisManifest:
    try:
        manifest = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=AnalysisManifest)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(directory, error) from None
    if manifest.format > ANALYSIS_FORMAT:
        raise StoreError(
            f"analysis {directory.name} has format {manifest.format}, this program reads up to {ANALYSIS_FORMAT}",
            field="analysis",
            fix="upgrade tegakari",
        )
    return manifest


def _damaged(directory: Path, error: Exception) -> StoreError:
    return StoreError(
        f"analysis {directory.parent.name}/{directory.name} is damaged: {error}",
        field="analysis",
        fix=f"delete {directory} and run the analysis again",
    )
