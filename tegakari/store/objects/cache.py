"""A store on a disk as a cache of a bucket: runs are copied there by demand and evicted by size and use."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import structlog

from tegakari.schemas.errors import DiskFullError, NotFoundError, StoreError, TegakariError
from tegakari.schemas.progress import CancelledWorkError, NoProgress
from tegakari.schemas.run import RunManifest
from tegakari.store.cached import catalogue, failure_file
from tegakari.store.disk.durable import exclusive_lock, write_atomically
from tegakari.store.disk.layout import catalogue_directory, run_directory, use_file, work_root
from tegakari.store.disk.publish import delete_run, published_names, read_content
from tegakari.store.objects.bucket import Bucket
from tegakari.store.objects.published_runs import published_runs
from tegakari.store.objects.pull import pull_run

log = structlog.get_logger()

POLL_SECONDS = 30.0
REQUEST_SECONDS = 0.5
"""Time between two looks at what is requested."""

FAILURE_SECONDS = 30.0
"""Time after which a run that could not be copied is tried again."""


STOP_SECONDS = 10.0
"""Time that a copy has to end with the service; the next service goes on with it."""


class CacheSettings(NamedTuple):
    """Where a bucket is cached, and how much of it."""

    directory: Path
    max_bytes: int | None = None
    """of all runs; None: what the disk holds"""
    poll_seconds: float = POLL_SECONDS
    """time between two looks for new and deleted runs"""


class Cache:
    """Keeps a directory in step with a bucket. One process per directory."""

    def __init__(self, bucket: Bucket, settings: CacheSettings) -> None:
        self.bucket = bucket
        self.directory = settings.directory
        self._settings = settings
        self._stopping = threading.Event()
        self._manifests: dict[str, RunManifest] = {}
        """runs of the bucket by name"""
        self._retry_at: dict[str, float] = {}
        """run -> time of the next attempt"""

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the cache in step during the block.

        Raises:
            StoreError: another process keeps this directory.
            ObjectStorageError: the bucket cannot be read, and nothing of it is in the cache.
        """
        catalogue_directory(self.directory).mkdir(parents=True, exist_ok=True)
        busy = StoreError(f"another service uses the cache {self.directory}", field="--cache", fix="name another one")
        with exclusive_lock(catalogue_directory(self.directory), busy):
            try:
                self.refresh()
            except TegakariError as error:
                self._manifests = {manifest.run: manifest for manifest in catalogue(self.directory)}
                if not self._manifests:
                    raise
                log.warning("bucket not read; the cache is served", bucket=self.bucket.url, reason=str(error))
            threads = [threading.Thread(target=loop, name="cache", daemon=True) for loop in (self._poll, self._pull)]
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                self._stopping.set()
                for thread in threads:
                    thread.join(STOP_SECONDS)

    def refresh(self) -> None:
        """Take the names of the bucket's runs over; delete copies of those that were deleted or replaced.

        Raises:
            ObjectStorageError: the bucket cannot be read; nothing was deleted.
        """
        published = {run.manifest.run: run for run in published_runs(self.bucket)}
        directory = catalogue_directory(self.directory)
        for file in directory.glob("*.json"):
            if file.stem not in published:
                file.unlink(missing_ok=True)
                failure_file(self.directory, file.stem).unlink(missing_ok=True)
                log.info("run was deleted in the bucket", run=file.stem)
        for name, run in published.items():
            file = directory / f"{name}.json"
            if not file.is_file() or file.read_bytes() != run.content:
                write_atomically(file, run.content)
                self._retry_at.pop(name, None)
        for name in published_names(self.directory):
            if name not in published or read_content(run_directory(self.directory, name)) != published[name].content:
                with suppress(NotFoundError):
                    delete_run(self.directory, name)
        self._manifests = {name: run.manifest for name, run in published.items()}

    def pull(self, run: str) -> None:
        """Copy a run to the disk, evicting others as needed; nothing if it is there.

        Raises:
            NotFoundError: the bucket has no such run.
            DiskFullError: it does not fit beside the runs that are in use.
            StoreError, ObjectStorageError: as of `pull_run`.
        """
        if run not in self._manifests:
            names = ", ".join(self._manifests)
            raise NotFoundError(f"no run {run!r} in {self.bucket.url}", field="run", fix=f"runs: {names or 'none'}")
        if run not in published_names(self.directory):
            self._make_room(self._manifests[run])
            self._copy(self._manifests[run], requested=True)

    def is_stopping(self) -> bool:
        """Whether the service stops."""
        return self._stopping.is_set()

    def requested(self) -> list[RunManifest]:
        """Runs that were requested and can be copied now, the last request first."""
        runs = [manifest for manifest in self._remote() if self._last_use(manifest.run)]
        return sorted(runs, key=lambda manifest: -self._last_use(manifest.run))

    def _remote(self) -> list[RunManifest]:
        """Runs that are not on the disk, but those whose copying failed a moment ago."""
        local, now = set(published_names(self.directory)), time.monotonic()
        return [
            manifest
            for name, manifest in self._manifests.items()
            if name not in local and self._retry_at.get(name, 0) <= now
        ]

    def _poll(self) -> None:
        while not self._stopping.wait(self._settings.poll_seconds):
            try:
                self.refresh()
            except Exception as error:  # noqa: BLE001 - a thread that ends would leave the cache as it is for good
                log.warning("bucket not read", bucket=self.bucket.url, reason=str(error))

    def _pull(self) -> None:
        while not self._stopping.is_set():
            try:
                pulled = self._pull_next()
            except Exception as error:
                log.exception("cache", reason=str(error))
                pulled = False
            if not pulled:
                self._stopping.wait(REQUEST_SECONDS)

    def _pull_next(self) -> bool:
        """Copy the run that was requested last, or the newest one that fits beside the others."""
        requested = self.requested()
        free = self._free()
        candidates = requested or [manifest for manifest in self._remote() if free is None or _size(manifest) <= free]
        if not candidates:
            return False
        manifest = candidates[0] if requested else max(candidates, key=lambda manifest: manifest.created)
        try:
            self._make_room(manifest)
        except DiskFullError as error:
            self._record_failure(manifest, error.message, error)
            return False
        try:
            self._copy(manifest, requested=bool(requested))
        except CancelledWorkError:
            return True
        except (TegakariError, OSError) as error:
            self._record_failure(manifest, "the last attempt to copy it failed", error)
            return False
        failure_file(self.directory, manifest.run).unlink(missing_ok=True)
        return True

    def _record_failure(self, manifest: RunManifest, reason: str, error: Exception) -> None:
        """Log a failure, and tell those who request the run without naming files of this machine."""
        self._retry_at[manifest.run] = time.monotonic() + FAILURE_SECONDS
        log.warning("run not pulled", run=manifest.run, reason=str(error))
        with suppress(OSError):
            write_atomically(failure_file(self.directory, manifest.run), reason.encode())

    def _copy(self, manifest: RunManifest, *, requested: bool) -> None:
        started = time.perf_counter()
        pull_run(self.bucket, manifest.run, self.directory, _Interruption(self, requested))
        log.info("run pulled", run=manifest.run, bytes=_size(manifest), seconds=round(time.perf_counter() - started, 2))

    def _make_room(self, manifest: RunManifest) -> None:
        """Evict what is needed least until a run fits: broken pulls, then runs by their last use, none that is open.

        Raises:
            DiskFullError: it does not fit beside those that are open. Clients may read the message.
        """
        limit, size = self._settings.max_bytes, _size(manifest)
        if limit is None:
            return
        if size > limit:
            raise DiskFullError(
                f"run {manifest.run!r} has {size:,} bytes, more than the {limit:,} of the cache",
                field="--cache-gb",
                fix=f"give the cache {size / 1e9:.3g} GB or more",
            )
        if size > limit - self._taken():
            for work in self._broken_pulls():
                shutil.rmtree(work, ignore_errors=True)
        for run in sorted(published_names(self.directory), key=self._last_use):
            if size > limit - self._taken():
                self._evict(run)
        if size > limit - (taken := self._taken()):
            raise DiskFullError(
                f"run {manifest.run!r} has {size:,} bytes; of the {limit:,} of the cache, {taken:,} are in use",
                field="--cache-gb",
                fix="wait until the requests for other runs have ended, or give the cache more space",
            )

    def _evict(self, run: str) -> None:
        file = use_file(self.directory, run)
        file.parent.mkdir(exist_ok=True)
        in_use = StoreError(f"run {run!r} is in use")
        with suppress(StoreError, NotFoundError), exclusive_lock(file, in_use):
            os.utime(file, (0, 0))  # it is not requested any more
            delete_run(self.directory, run)
            log.info("run evicted", run=run)

    def _free(self) -> int | None:
        """Bytes of the cache that are left; None: it has no limit but the disk."""
        return None if self._settings.max_bytes is None else self._settings.max_bytes - self._taken()

    def _taken(self) -> int:
        """Bytes of the runs in the cache and of pulls that broke."""
        local = [self._manifests[run] for run in published_names(self.directory) if run in self._manifests]
        files = [file.stat().st_blocks * 512 for work in self._broken_pulls() for file in work.rglob("*")]
        return sum(map(_size, local)) + sum(files)

    def _broken_pulls(self) -> list[Path]:
        return list(work_root(self.directory).glob("pull-*"))

    def _last_use(self, run: str) -> float:
        """Time of the last request for a run, in seconds; 0: none since it was evicted."""
        try:
            return use_file(self.directory, run).stat().st_mtime
        except FileNotFoundError:
            return 0


class _Interruption(NoProgress):
    """Ends a copy when the service stops, or when another run is requested and this one is not."""

    def __init__(self, cache: Cache, requested: bool) -> None:
        self._cache = cache
        self._requested = requested

    def advance(self, steps: int = 1) -> None:
        if self._cache.is_stopping() or (not self._requested and self._cache.requested()):
            raise CancelledWorkError


def _size(manifest: RunManifest) -> int:
    return sum(entry.size for entry in manifest.files)
