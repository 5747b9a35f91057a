"""Garbage collection of a store: orphaned work directories, graves, vectors and analyses of deleted runs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tegakari.store.disk.durable import bury, is_grave, is_locked
from tegakari.store.disk.layout import added_vectors_directory, vectors_directory, work_root
from tegakari.store.reader import Run, Store
from tegakari.store.results import stored_analyses

WORK_SECONDS = 24 * 3600
"""Unfinished work that changed more recently may belong to a running process, or be resumed."""

GRAVE_SECONDS = 600
"""The process that made a younger grave may still be removing it."""


class Garbage(NamedTuple):
    """A directory or file that no run needs."""

    path: Path
    reason: str
    size: int
    """bytes"""


def find_garbage(store: Path, *, now: float | None = None) -> list[Garbage]:
    """What `collect` would remove; never a part of a published run.

    Args:
        store: the store's directory.
        now: seconds since the epoch; default: the current time.

    Raises:
        StoreError: a run cannot be read, so what it needs is unknown.
    """
    reader = Store(store)
    runs = [reader.run(name) for name in reader.names()]
    garbage = (
        *_unfinished_work(store, time.time() if now is None else now),
        *_orphaned_vectors(store, runs),
        *_orphaned_analyses(store, runs),
    )
    return [Garbage(path, reason, _size(path)) for path, reason in garbage]


def collect(store: Path, garbage: list[Garbage]) -> None:
    """Remove garbage; a directory that another process removes meanwhile is skipped."""
    for entry in garbage:
        if is_grave(entry.path):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with suppress(FileNotFoundError):
                bury(entry.path, work_root(store))


def _unfinished_work(store: Path, now: float) -> Iterator[tuple[Path, str]]:
    for entry in _entries(work_root(store)):
        if is_grave(entry):
            if now - entry.lstat().st_ctime > GRAVE_SECONDS:
                yield entry, "rest of something that was deleted"
        elif entry.is_dir() and now - _last_change(entry) > WORK_SECONDS and not _in_use(entry):
            yield entry, "unfinished work without a change for a day"


def _orphaned_vectors(store: Path, runs: list[Run]) -> Iterator[tuple[Path, str]]:
    needed = {added_vectors_directory(store, run.manifest) for run in runs}
    for entry in _entries(vectors_directory(store)):
        if entry not in needed:
            yield entry, "vectors of a deleted run"


def _orphaned_analyses(store: Path, runs: list[Run]) -> Iterator[tuple[Path, str]]:
    published = {(run.name, run.manifest.fingerprint) for run in runs}
    for analysis in stored_analyses(store):
        deleted = [run.run for run in analysis.manifest.runs if (run.run, run.fingerprint) not in published]
        if deleted:
            yield analysis.directory, f"analysis of a deleted run: {', '.join(deleted)}"


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _in_use(work: Path) -> bool:
    return any(is_locked(path) for path in (work, work / "lock") if path.exists())


def _last_change(directory: Path) -> float:
    return max(path.lstat().st_mtime for path in (directory, *directory.rglob("*")))


def _size(directory: Path) -> int:
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())
