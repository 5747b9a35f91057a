"""A store that is a cache of a bucket: its runs are in use or can be evicted, others are requested from the bucket.

Another process fills the directory (`tegakari.store.objects.cache`). The two share files: `catalogue/` has run.json of
every run of the bucket; the time of `use/<run>` is that of the last request, and a shared lock on it means that the run
is open somewhere.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path

import structlog

from tegakari.schemas.errors import NotFoundError, NotPulledError, StoreError
from tegakari.schemas.run import RunManifest
from tegakari.store.disk.contents import read_bounded
from tegakari.store.disk.layout import (
    catalogue_directory,
    check_run_name,
    entries,
    is_run_name,
    use_file,
)
from tegakari.store.disk.publish import MAX_MANIFEST, check_manifest
from tegakari.store.reader import Run, Store

log = structlog.get_logger()

IDLE_SECONDS = 60.0
"""A run that no request has named for this long is closed, so that it can be evicted."""

USE_SECONDS = 5.0
"""Minimum time between two records of the use of a run."""


class CachedStore(Store):
    """The runs of a cache that are on the disk, and the names of those that are not."""

    def __init__(self, directory: str | Path) -> None:
        super().__init__(directory)
        self._used: dict[str, float] = {}
        self._leased: weakref.WeakSet[Run] = weakref.WeakSet()
        self._leasing = threading.Lock()

    def remote(self) -> list[RunManifest]:
        """Manifests of the runs of the bucket that are not on the disk, by name."""
        local = set(self.names())
        return [manifest for manifest in catalogue(self.directory) if manifest.run not in local]

    def run(self, name: str) -> Run:
        """Open a run that is on the disk, and record its use.

        Raises:
            NotPulledError: the run is in the bucket; the request for it is recorded.
            NotFoundError: it is not.
            StoreError: the run is damaged or of another format.
        """
        if not (catalogue_directory(self.directory) / f"{check_run_name(name)}.json").is_file():
            return super().run(name)
        self._record_use(name)
        lease = _lease(use_file(self.directory, name))
        try:
            if lease is not None:
                run = super().run(name)
                with self._leasing:
                    if run not in self._leased:
                        self._leased.add(run)
                        weakref.finalize(run, os.close, lease)
                        lease = None
                return run
        except NotFoundError:
            pass
        finally:
            if lease is not None:
                os.close(lease)
        self._record_use(name, at_once=True)
        raise NotPulledError(
            f"run {name!r} is in the bucket and not on this machine yet{_failure(self.directory, name)}",
            field="run",
            fix="repeat the request after the seconds of Retry-After",
        )

    def release_idle(self, seconds: float = IDLE_SECONDS) -> None:
        """Close runs that no request has named for a while; requests in progress keep theirs open."""
        now = time.monotonic()
        with self._lock:
            for name in [name for name in self._open if now - self._used.get(name, 0) > seconds]:
                del self._open[name]

    def _record_use(self, name: str, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now - self._used.get(name, -USE_SECONDS) < USE_SECONDS:
            return
        self._used[name] = now
        with suppress(OSError):  # a full disk does not keep runs from being read
            file = use_file(self.directory, name)
            file.parent.mkdir(exist_ok=True)
            file.touch()


def open_store(directory: Path) -> Store:
    """A store, or a cache of a bucket."""
    return CachedStore(directory) if catalogue_directory(directory).is_dir() else Store(directory)


def catalogue(store: Path) -> list[RunManifest]:
    """Manifests of the runs of the bucket that a store is a cache of, by name; of another store, none."""
    manifests = []
    for file in entries(catalogue_directory(store)):
        if file.suffix == ".json" and is_run_name(file.stem):
            try:
                manifests.append(check_manifest(file.stem, read_bounded(file, MAX_MANIFEST)))
            except FileNotFoundError:  # deleted since it was listed
                continue
            except (OSError, StoreError) as error:
                log.warning("run left out", run=file.stem, reason=str(error))
    return manifests


def failure_file(store: Path, run: str) -> Path:
    """File with the reason why a run could not be copied to a cache, for those who request it."""
    return catalogue_directory(store) / f"{check_run_name(run)}.failure"


def _failure(store: Path, run: str) -> str:
    with suppress(OSError):
        return f": {failure_file(store, run).read_text(encoding='utf-8')}"
    return ""


def _lease(file: Path) -> int | None:
    """A shared lock on a file until the descriptor is closed; None: the run is being evicted, or the disk is full."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
