"""Garbage collection of a store: abandoned work and files, graves, old jobs, vectors and analyses of deleted runs."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from tegakari.schemas.errors import StoreError
from tegakari.schemas.run import RunManifest
from tegakari.store.cached import catalogue
from tegakari.store.disk.durable import bury, exclusive_lock, is_grave, is_locked, is_temporary
from tegakari.store.disk.job_files import DEFAULT_RETENTION, JobFiles, Retention
from tegakari.store.disk.layout import (
    added_vectors_directory,
    additions_directory,
    additions_root,
    entries,
    jobs_directory,
    notes_root,
    vectors_directory,
    work_root,
)
from tegakari.store.reader import Store
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


def find_garbage(store: Path, *, jobs: Retention = DEFAULT_RETENTION, now: float | None = None) -> list[Garbage]:
    """What `collect` would remove; never a part of a published run, or anything that a damaged run may need.

    Notes are never garbage, also where their run is deleted: they are the work of people.

    Args:
        store: the store's directory.
        jobs: states of the service's jobs that are kept.
        now: seconds since the epoch; default: the current time.
    """
    now = time.time() if now is None else now
    reader = Store(store)
    runs = reader.runs()
    damaged = set(reader.names()) - {run.name for run in runs}
    # What belongs to a run that is evicted from a cache, and may come back, is no garbage.
    manifests = [*(run.manifest for run in runs), *catalogue(store)]
    garbage = (
        *_unfinished_work(store, now),
        *_orphaned(
            vectors_directory(store),
            {added_vectors_directory(store, manifest) for manifest in manifests},
            damaged,
            "vectors of a deleted run",
        ),
        *_orphaned(
            additions_root(store),
            {additions_directory(store, manifest) for manifest in manifests},
            damaged,
            "additions to a deleted run",
        ),
        *_orphaned_analyses(store, manifests, damaged),
        *((path, "state of a job that ended long ago") for path in JobFiles(store).expired(jobs, now)),
        *_unfinished_files(store, now),
    )
    return [Garbage(path, reason, _size(path)) for path, reason in garbage]


def collect(store: Path, garbage: list[Garbage]) -> None:
    """Remove garbage; what another process removes or uses meanwhile is skipped."""
    for entry in garbage:
        if is_grave(entry.path):
            shutil.rmtree(entry.path, ignore_errors=True)
        elif entry.path.is_dir():
            in_use = StoreError(f"another process has resumed {entry.path.name}")
            with suppress(FileNotFoundError, StoreError), ExitStack() as locks:
                for path in _locks(entry.path):
                    locks.enter_context(exclusive_lock(path, in_use))
                bury(entry.path, work_root(store))
        else:
            entry.path.unlink(missing_ok=True)


def _unfinished_work(store: Path, now: float) -> Iterator[tuple[Path, str]]:
    for entry in entries(work_root(store)):
        age = now - _last_change(entry, now)
        if is_grave(entry):
            if age > GRAVE_SECONDS:
                yield entry, "rest of something that was deleted"
        elif entry.is_dir() and age > WORK_SECONDS and not any(map(is_locked, _locks(entry))):
            yield entry, "unfinished work without a change for a day"


def _orphaned(root: Path, needed: set[Path], damaged: set[str], reason: str) -> Iterator[tuple[Path, str]]:
    """Directories of runs, named by run and fingerprint, that no run needs."""
    for entry in entries(root):
        if entry not in needed and entry.name.rpartition("-")[0] not in damaged:
            yield entry, reason


def _orphaned_analyses(store: Path, manifests: list[RunManifest], damaged: set[str]) -> Iterator[tuple[Path, str]]:
    published = {(manifest.run, manifest.fingerprint) for manifest in manifests}
    for analysis in stored_analyses(store):
        deleted = [
            run.run
            for run in analysis.manifest.runs
            if (run.run, run.fingerprint) not in published and run.run not in damaged
        ]
        if deleted:
            yield analysis.directory, f"analysis of a deleted run: {', '.join(deleted)}"


def _unfinished_files(store: Path, now: float) -> Iterator[tuple[Path, str]]:
    for directory in (store, jobs_directory(store), *entries(notes_root(store))):
        for entry in entries(directory):
            if is_temporary(entry) and not entry.is_dir() and now - _last_change(entry, now) > GRAVE_SECONDS:
                yield entry, "unfinished file of a process that was killed"


def _locks(work: Path) -> list[Path]:
    """What a process that uses a directory has locked."""
    return [path for path in (work, *sorted(work.glob("lock*"))) if path.exists()]


def _last_change(path: Path, now: float) -> float:
    """When the path, or a file below it, changed last; `now` if it is gone.

    Changes of inodes count: a copied file has the time of the original, which may be years old.
    """
    return max((status.st_ctime for status in _statuses(path)), default=now)


def _size(path: Path) -> int:
    return sum(status.st_size for status in _statuses(path) if stat.S_ISREG(status.st_mode))


def _statuses(path: Path) -> Iterator[os.stat_result]:
    """Status of a path and of everything below it; what another process removes meanwhile is left out."""
    below = (os.path.join(root, name) for root, names, files in os.walk(path) for name in (*names, *files))  # noqa: PTH118
    for name in (path, *below):
        with suppress(FileNotFoundError):
            yield os.lstat(name)
