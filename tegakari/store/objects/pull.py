"""Pull of a run from a bucket: in parts, several at a time, resumed where it broke, published after its checksums."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tegakari.schemas.errors import (
    DiskFullError,
    NotFoundError,
    ObjectStorageError,
    RunExistsError,
    StoreError,
)
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.run import FileEntry, RunManifest
from tegakari.store.disk.contents import check_contents
from tegakari.store.disk.durable import (
    exclusive_lock,
    publish_directory,
    remove_without_files,
    sha256_of,
    translate_disk_full,
    write_atomically,
)
from tegakari.store.disk.layout import CONTENTS, MANIFEST, run_directory, work_directory
from tegakari.store.objects.bucket import Bucket
from tegakari.store.objects.published_runs import PublishedRun, existing_run, published_run
from tegakari.store.objects.received_ranges import PartialFile, Range, missing_ranges
from tegakari.store.objects.transfers import Transfers

PART = 32 * 2**20
"""Bytes of a request."""

PARTS_AT_A_TIME = 8

SPARE_BYTES = 64 * 2**20
"""Free space of the disk that a pull leaves to others, at most a tenth of the run."""


class _Part(NamedTuple):
    entry: FileEntry
    range: Range


def pull_run(
    bucket: Bucket, run: str, store: Path, progress: Progress = NoProgress(), *, max_bytes: int | None = None
) -> RunManifest:
    """Publish a copy of a run of a bucket in a store, after comparing every file with its checksum.

    A pull that was interrupted resumes: no byte that was received is requested again.

    Args:
        bucket: with the run.
        run: name of the run, there and here.
        store: directory of the store; created if missing.
        progress: in MiB.
        max_bytes: size of the files that the run may have; None: what the disk holds.

    Raises:
        NotFoundError: the bucket has no such run, or it was deleted or replaced meanwhile.
        RunExistsError: the store has a run of this name.
        DiskFullError: the run does not fit; nothing was published.
        StoreError: run.json is damaged, or another process pulls the run.
        ObjectStorageError: the bucket cannot be read, or a file differs from its checksum; nothing was published.
    """
    target = run_directory(store, run)
    taken = RunExistsError(f"run {run!r} exists in {store}", field="run", fix="delete that run first")
    remove_without_files(target)
    if target.exists():
        raise taken
    published = existing_run(bucket, run)
    key = hashlib.sha256(repr((bucket.url, run, published.upload)).encode()).hexdigest()[:16]
    with translate_disk_full(store, field="store"):
        work = work_directory(store, f"pull-{key}")
        work.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(work, StoreError(f"another process pulls run {run}", field="run", fix="wait for it")):
            pull = _Pull(bucket, published, work)
            pull.check_space(max_bytes)
            try:
                pull.receive(progress)
            except FileNotFoundError:
                current = published_run(bucket, run)
                if current is not None and current.upload == published.upload:
                    raise ObjectStorageError(
                        f"{bucket.url} lacks a file that run.json of {run} lists",
                        field="store",
                        fix="delete the run there and push it again",
                    ) from None
                shutil.rmtree(work)
                raise NotFoundError(
                    f"run {run!r} of {bucket.url} was deleted or replaced while it was pulled",
                    field="run",
                    fix="run the same command again" if current else "`tegakari runs list` shows the runs",
                ) from None
            try:
                publish_directory(pull.verified, target)
            except FileExistsError:
                raise taken from None
            finally:
                shutil.rmtree(work)
    return published.manifest


class _Pull:
    """A run on its way: files in parts with a journal each, then verified ones."""

    def __init__(self, bucket: Bucket, published: PublishedRun, work: Path) -> None:
        self.bucket = bucket
        self.published = published
        self.verified = work / "verified"
        self._parts = work / "parts"
        self._journals = work / "journals"
        self._disk = work
        self._lock = threading.Lock()
        self._left: dict[str, int] = {}
        """parts of a file that are missing, by path"""
        manifest = published.manifest
        self._missing = {
            entry.path: missing_ranges(self._journals / entry.path, entry.size)
            for entry in manifest.files
            if not (self.verified / entry.path).is_file()
        }
        self._entries = [entry for entry in manifest.files if entry.path in self._missing]
        self._missing_bytes = sum(part.end - part.start for parts in self._missing.values() for part in parts)

    def check_space(self, max_bytes: int | None) -> None:
        """Refuse a run that does not fit, before anything is received.

        Raises:
            DiskFullError: it does not.
        """
        total = sum(entry.size for entry in self.published.manifest.files)
        run = self.published.manifest.run
        if max_bytes is not None and total > max_bytes:
            raise DiskFullError(
                f"run {run!r} has {total:,} bytes, more than the {max_bytes:,} of the cache",
                field="--cache-gb",
                fix=f"give the cache {total / 1e9:.3g} GB or more",
            )
        free = shutil.disk_usage(self._disk).free
        if self._missing_bytes + min(SPARE_BYTES, total // 10) > free:
            raise DiskFullError(
                f"run {run!r} needs {self._missing_bytes:,} more bytes, and the disk of {self._disk} has {free:,}",
                field="store",
                fix="make space and run the same command again; what was received is kept",
            )

    def receive(self, progress: Progress) -> None:
        """Receive what is missing, and verify each file once it is whole.

        Raises:
            FileNotFoundError: the bucket has no such object.
            ObjectStorageError: it cannot be read, or a file differs from its checksum.
        """
        manifest = self.published.manifest
        for entry in manifest.files:
            for directory in (self.verified, self._parts, self._journals):
                (directory / entry.path).parent.mkdir(parents=True, exist_ok=True)
        total = sum(entry.size for entry in manifest.files)
        transfers = Transfers(progress, f"pulling {manifest.run}", total, total - self._missing_bytes)
        parts = [_Part(entry, part) for entry in self._entries for part in self._requests_of(entry)]
        for part in parts:
            self._left[part.entry.path] = self._left.get(part.entry.path, 0) + 1

        def receive_part(part: _Part) -> None:
            self._receive_part(part, transfers)
            with self._lock:
                self._left[part.entry.path] -= 1
                whole = not self._left[part.entry.path]
            if whole:
                self._verify(part.entry)

        transfers.run(receive_part, parts, PARTS_AT_A_TIME)
        write_atomically(self.verified / MANIFEST, self.published.content)
        check_contents(self.verified, CONTENTS)

    def _requests_of(self, entry: FileEntry) -> Iterator[Range]:
        """Ranges of a file to request; an empty one of a file without missing bytes, which is to be verified."""
        for start, end in self._missing[entry.path] or [Range(0, 0)]:
            for first in range(start, end, PART) or [start]:
                yield Range(first, min(first + PART, end))

    def _receive_part(self, part: _Part, transfers: Transfers) -> None:
        path = self.published.path(part.entry.path)
        position, end = part.range
        with PartialFile(self._parts / part.entry.path, self._journals / part.entry.path) as file:
            for chunk in self.bucket.stream(path, position, end):
                file.write(position, chunk)
                position += len(chunk)
                transfers.moved(len(chunk))

    def _verify(self, entry: FileEntry) -> None:
        file = self._parts / entry.path
        digest = sha256_of(file)
        if digest != entry.sha256:
            file.unlink()
            (self._journals / entry.path).unlink()
            raise ObjectStorageError(
                f"{self.bucket.url}/{self.published.path(entry.path)}: content differs from its checksum "
                f"(SHA-256 {digest[:16]}…, run.json lists {entry.sha256[:16]}…)",
                field="store",
                fix="replace the object by a copy of the file, then run the same command again: the rest is kept",
            )
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # Linux begins to write it; the end flushes it
        finally:
            os.close(descriptor)
        file.rename(self.verified / entry.path)
