"""What a store holds that no run needs any more: left-over work, graves, vectors and analyses of runs that are gone."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tegakari.store.disk.durable import is_locked
from tegakari.store.disk.layout import added_vectors_directory
from tegakari.store.reader import Store
from tegakari.store.results import stored_analyses

RECENT_SECONDS = 24 * 3600
"""Work that was touched since then may belong to a running process, or be wanted again."""

GRAVE_SECONDS = 600
"""What was deleted since then may still be in the hands of the process that deletes it."""


class Garbage(NamedTuple):
    """A directory that may go."""

    path: Path
    reason: str
    size: int
    """bytes"""


def find_garbage(store: Path, *, now: float | None = None) -> list[Garbage]:
    """What `collect` would remove: by path. Nothing of a published run is ever among it.

    Args:
        store: the store's directory.
        now: seconds since the epoch; default: the time.

    Raises:
        StoreError: a run cannot be read, so that it is not known what it needs.
    """
    moment = time.time() if now is None else now
    runs = [Store(store).run(name) for name in Store(store).names()]
    found: list[tuple[Path, str]] = []
    work = store / "work"
    for entry in sorted(work.iterdir()) if work.is_dir() else ():
        if entry.name.startswith((".deleted-", "deleted-")):
            if moment - entry.lstat().st_ctime > GRAVE_SECONDS:
                found.append((entry, "left of something that was deleted"))
        elif entry.is_dir() and moment - _last_touched(entry) > RECENT_SECONDS and not _in_work(entry):
            found.append((entry, "unfinished work that nobody has touched for a day"))
    needed = {added_vectors_directory(store, run.manifest) for run in runs}
    vectors = store / "vectors"
    for entry in sorted(vectors.iterdir()) if vectors.is_dir() else ():
        if entry not in needed:
            found.append((entry, "vectors of a run that is gone"))
    there = {(run.name, run.manifest.fingerprint) for run in runs}
    for analysis in stored_analyses(store):
        gone = [made_on.run for made_on in analysis.manifest.runs if (made_on.run, made_on.fingerprint) not in there]
        if gone:
            found.append((analysis.directory, f"analysis of a run that is gone: {', '.join(gone)}"))
    return [Garbage(path, reason, _size(path)) for path, reason in found]


def collect(store: Path, garbage: list[Garbage]) -> None:
    """Remove what was found: each directory goes out of sight with one rename first."""
    for entry in garbage:
        grave = store / "work" / f".deleted-{entry.path.name}-{os.getpid()}"
        grave.parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # another process was faster
            entry.path.rename(grave)
        shutil.rmtree(grave, ignore_errors=True)


def _in_work(work: Path) -> bool:
    return any(is_locked(path) for path in (work, work / "lock") if path.exists())


def _last_touched(directory: Path) -> float:
    return max(path.lstat().st_mtime for path in (directory, *directory.rglob("*")))


def _size(directory: Path) -> int:
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())
