"""A store on a disk as a cache of a bucket: runs are copied there by demand and evicted by size and use."""

from __future__ import annotations

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
from tegakari.store.disk.layout import catalogue_directory, run_directory, use_file
from tegakari.store.disk.publish import delete_run, published_names, read_content
from tegakari.store.objects.bucket import Bucket
from tegakari.store.objects.published_runs import published_runs
from tegakari.store.objects.pull import pull_run

log = structlog.get_logger()

POLL_SECONDS = 30.0
DEMAND_SECONDS = 0.5
"""Time between two looks at what is requested."""

FAILURE_SECONDS = 30.0
"""Time after which a run that could not be copied is tried again."""


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
                if not catalogue(self.directory):
                    raise
                log.warning("bucket not read; the cache is served", bucket=self.bucket.url, reason=str(error))
            threads = [threading.Thread(target=loop, name="cache") for loop in (self._poll, self._pull)]
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                self._stopping.set()
                for thread in threads:
                    thread.join()

    def refresh(self) -> None:
        """Take the names of the bucket's runs over; delete copies of those that were deleted or replaced.

        Raises:
            ObjectStorageError: the bucket cannot be read; nothing was deleted.
        """
        published = {run.manifest.run: run.content for run in published_runs(self.bucket)}
        directory = catalogue_directory(self.directory)
        for manifest in catalogue(self.directory):
            if manifest.run not in published:
                (directory / f"{manifest.run}.json").unlink(missing_ok=True)
                failure_file(self.directory, manifest.run).unlink(missing_ok=True)
                log.info("run was deleted in the bucket", run=manifest.run)
        for run, content in published.items():
            file = directory / f"{run}.json"
            if not file.is_file() or file.read_bytes() != content:
                write_atomically(file, content)
                self._retry_at.pop(run, None)
        for run in published_names(self.directory):
            if run not in published or read_content(run_directory(self.directory, run)) != published[run]:
                with suppress(NotFoundError):
                    delete_run(self.directory, run)

    def pull(self, run: str) -> None:
        """Copy a run to the disk, evicting others as needed; nothing if it is there.

        Raises:
            NotFoundError: the bucket has no such run.
            DiskFullError: it does not fit beside the runs that are in use.
            StoreError, ObjectStorageError: as of `pull_run`.
        """
        manifests = {manifest.run: manifest for manifest in catalogue(self.directory)}
        if run not in manifests:
            raise NotFoundError(
                f"no run {run!r} in {self.bucket.url}", field="run", fix=f"runs: {', '.join(manifests) or 'none'}"
            )
        if run not in published_names(self.directory):
            self._make_room(manifests[run])
            self._copy(manifests[run], demanded=True)

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
            except Exception as error:  # noqa: BLE001
                log.error("cache", reason=str(error))
                pulled = False
            if not pulled:
                self._stopping.wait(DEMAND_SECONDS)

    def _pull_next(self) -> bool:
        """Copy the run that was requested last, or one that nobody has requested where there is room for it."""
        local = set(published_names(self.directory))
        now = time.monotonic()
        remote = [
            manifest
            for manifest in catalogue(self.directory)
            if manifest.run not in local and self._retry_at.get(manifest.run, 0) <= now
        ]
        demanded = [manifest for manifest in remote if self._last_use(manifest.run)]
        if demanded:
            manifest = max(demanded, key=lambda manifest: self._last_use(manifest.run))
        else:
            fitting = [manifest for manifest in remote if self._free() is None or _size(manifest) <= (self._free() or 0)]
            if not fitting:
                return False
            manifest = max(fitting, key=lambda manifest: manifest.created)
        failure = failure_file(self.directory, manifest.run)
        try:
            if demanded:
                self._make_room(manifest)
            self._copy(manifest, demanded=bool(demanded))
        except CancelledWorkError:
            return True
        except (TegakariError, OSError) as error:
            self._retry_at[manifest.run] = now + FAILURE_SECONDS
            log.warning("run not pulled", run=manifest.run, reason=str(error))
            shown = error.message if isinstance(error, _DoesNotFitError) else "the last attempt to copy it failed"
            write_atomically(failure, shown.encode())
            return False
        failure.unlink(missing_ok=True)
        return True

    def _copy(self, manifest: RunManifest, *, demanded: bool) -> None:
        started = time.perf_counter()
        pull_run(self.bucket, manifest.run, self.directory, _Interruption(self, demanded))
        log.info("run pulled", run=manifest.run, bytes=_size(manifest), seconds=round(time.perf_counter() - started, 2))

    def is_wanted_elsewhere(self) -> bool:
        """Whether the service stops, or somebody waits for a run."""
        if self._stopping.is_set():
            return True
        local = set(published_names(self.directory))
        return any(
            self._last_use(file.stem) and file.stem not in local and file.stem not in self._retry_at
            for file in catalogue_directory(self.directory).glob("*.json")
        )

    @property
    def is_stopping(self) -> bool:
        """Whether the service stops."""
        return self._stopping.is_set()

    def _make_room(self, manifest: RunManifest) -> None:
        """Evict runs, the one that was used least recently first, until a run fits.

        Raises:
            _DoesNotFitError: it does not fit beside those that are in use.
        """
        limit, size = self._settings.max_bytes, _size(manifest)
        if limit is None:
            return
        if size > limit:
            raise _DoesNotFitError(
                f"run {manifest.run!r} has {size:,} bytes, more than the {limit:,} of the cache",
                field="--cache-gb",
                fix=f"give the cache {size / 1e9:.3g} GB or more",
            )
        for run in sorted(published_names(self.directory), key=self._last_use):
            if size <= (self._free() or 0):
                return
            self._evict(run)
        if size > (free := self._free() or 0):
            raise _DoesNotFitError(
                f"run {manifest.run!r} has {size:,} bytes; of the {limit:,} of the cache, {limit - free:,} are in use",
                field="--cache-gb",
                fix="wait until the requests for other runs have ended, or give the cache more space",
            )

    def _evict(self, run: str) -> None:
        file = use_file(self.directory, run)
        file.parent.mkdir(exist_ok=True)
        if not file.exists():  # pulled in advance, and never requested
            file.touch()
        with suppress(_InUseError), exclusive_lock(file, _InUseError()):
            with suppress(NotFoundError):
                delete_run(self.directory, run)
            file.unlink(missing_ok=True)  # it is not requested any more
            log.info("run evicted", run=run)

    def _free(self) -> int | None:
        """Bytes of the cache that no run takes; None: it has no limit but the disk."""
        if self._settings.max_bytes is None:
            return None
        taken = 0
        for run in published_names(self.directory):
            files = run_directory(self.directory, run).rglob("*")
            taken += sum(file.stat().st_size for file in files if file.is_file())
        return self._settings.max_bytes - taken

    def _last_use(self, run: str) -> float:
        """Time of the last request for a run, in seconds; 0: none since it was evicted."""
        try:
            return use_file(self.directory, run).stat().st_mtime
        except FileNotFoundError:
            return 0


class _InUseError(StoreError):
    """A run is open in some process."""

    def __init__(self) -> None:
        super().__init__("the run is in use")


class _DoesNotFitError(DiskFullError):
    """A run is larger than what may be evicted; clients may read the message."""


class _Interruption(NoProgress):
    """Ends a copy when the service stops, or when another run is requested and this one is not."""

    def __init__(self, cache: Cache, demanded: bool) -> None:
        self._cache = cache
        self._demanded = demanded

    def advance(self, steps: int = 1) -> None:
        if self._cache.is_stopping or (not self._demanded and self._cache.is_wanted_elsewhere()):
            raise CancelledWorkError


def _size(manifest: RunManifest) -> int:
    return sum(entry.size for entry in manifest.files)
