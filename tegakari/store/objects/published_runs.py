"""Runs of a bucket: what is published under which name, one winner among publishers, deletion, abandoned uploads.

    runs/<run>/run.json          created last and once: {"upload": ..., "manifest": run.json as on a disk}
    runs/<run>/<upload>/<path>   the files that the manifest lists

Each upload has a directory of its own, named at random, so that whoever loses a race, or deletes a run, removes files
that nobody else writes or reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Annotated, NamedTuple

import msgspec
import structlog
from msgspec import Meta

from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import NotFoundError, ObjectStorageError, RunExistsError, StoreError
from tegakari.schemas.run import RunManifest
from tegakari.store.disk.layout import MANIFEST, WORK, check_run_name, is_run_name
from tegakari.store.disk.publish import MAX_MANIFEST, check_manifest
from tegakari.store.objects.bucket import Bucket
from tegakari.store.objects.creation import create_once

log = structlog.get_logger()

RUNS = "runs"
CONNECTIONS = 16
"""Manifests that are read at a time."""

ABANDONED = timedelta(days=1)
"""An upload without a change for this long is resumed by nobody."""


class PublishedRun(NamedTuple):
    """A run in a bucket."""

    upload: str
    """name of the directory of its files"""
    manifest: RunManifest
    content: bytes
    """run.json as it is in a store on a disk"""

    def path(self, file: str) -> str:
        """Path of the object of one of its files."""
        return f"{upload_directory(self.manifest.run, self.upload)}/{file}"


class _Entry(msgspec.Struct, frozen=True):
    upload: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    manifest: msgspec.Raw


def upload_directory(run: str, upload: str) -> str:
    """Directory of the files of an upload."""
    return f"{RUNS}/{run}/{upload}"


def published_run(bucket: Bucket, run: str) -> PublishedRun | None:
    """A run of a bucket; None: no run of this name is published.

    Raises:
        StoreError: its run.json is damaged or of another format.
        ObjectStorageError: it cannot be read.
    """
    raw = bucket.read(_entry_path(run), MAX_MANIFEST)
    if raw is None:
        return None
    try:
        entry = decode_json(raw, _Entry)
    except msgspec.DecodeError as error:
        raise StoreError(
            f"{bucket.url}/{_entry_path(run)} is damaged: {error}",
            field="run",
            fix="delete the run there, then push it again",
        ) from None
    content = bytes(entry.manifest)
    return PublishedRun(entry.upload, check_manifest(run, content), content)


def existing_run(bucket: Bucket, run: str) -> PublishedRun:
    """A run of a bucket that must be there.

    Raises:
        NotFoundError: no run of this name is published.
        StoreError, ObjectStorageError: as of `published_run`.
    """
    published = published_run(bucket, run)
    if published is None:
        raise NotFoundError(
            f"no run {run!r} in {bucket.url}",
            field="run",
            fix=f"`tegakari runs list --store {bucket.url}` shows the runs",
        )
    return published


def published_runs(bucket: Bucket) -> list[PublishedRun]:
    """All runs of a bucket by name; damaged ones are logged and left out.

    Raises:
        ObjectStorageError: the bucket cannot be listed or read.
    """
    names = [name for name in bucket.directories(RUNS) if is_run_name(name)]

    def readable(name: str) -> PublishedRun | None:
        try:
            return published_run(bucket, name)
        except StoreError as error:
            if isinstance(error, ObjectStorageError):
                raise
            log.warning("run left out", run=name, reason=error.message)
            return None

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return [run for run in pool.map(readable, names) if run is not None]


def publish_upload(bucket: Bucket, run: str, upload: str, content: bytes) -> None:
    """Give an upload whose files are complete its name; of several publishers, one succeeds.

    Args:
        bucket: of the upload.
        run: name of the run.
        upload: of this publisher alone.
        content: run.json of the run.

    Raises:
        RunExistsError: another upload has the name.
        ObjectStorageError: run.json cannot be written.
    """
    entry = msgspec.json.encode(_Entry(upload, msgspec.Raw(content)))
    if create_once(bucket, _entry_path(run), entry, MAX_MANIFEST) != entry:
        published_run(bucket, run)  # raises if it is damaged
        raise name_taken(bucket, run)


def name_taken(bucket: Bucket, run: str) -> RunExistsError:
    """The error of a name that another run has."""
    return RunExistsError(
        f"run {run!r} exists in {bucket.url}", field="run", fix="choose another name, or delete that run first"
    )


def delete_published_run(bucket: Bucket, run: str) -> None:
    """Take a run out of sight by deleting its run.json, then delete its files.

    Raises:
        NotFoundError: no run of this name is published.
        ObjectStorageError: an object cannot be deleted.
    """
    try:
        upload = existing_run(bucket, run).upload
    except StoreError as error:
        if isinstance(error, ObjectStorageError):
            raise
        upload = None  # damaged: what its files are is unknown; `abandoned_uploads` finds them
    bucket.delete([_entry_path(run)])
    if upload is not None:
        delete_upload(bucket, run, upload)


def delete_upload(bucket: Bucket, run: str, upload: str) -> None:
    """Delete the files of an upload.

    Raises:
        ObjectStorageError: they cannot be listed or deleted.
    """
    bucket.delete(stored.path for stored in bucket.objects(upload_directory(run, upload)))


class AbandonedUpload(NamedTuple):
    """Files of a publisher that was killed, or of a run whose deletion was."""

    run: str
    upload: str
    size: int
    """bytes"""


def abandoned_uploads(bucket: Bucket, now: datetime | None = None) -> Iterator[AbandonedUpload]:
    """Uploads that belong to no published run and have not changed for a day.

    Raises:
        StoreError: a run.json is damaged, so that it is unknown which files it needs.
        ObjectStorageError: the bucket cannot be listed or read.
    """
    newest = (datetime.now(UTC) if now is None else now) - ABANDONED
    for run in bucket.directories(RUNS):
        if not is_run_name(run):
            continue
        uploads = bucket.directories(f"{RUNS}/{run}")
        published = published_run(bucket, run)
        for upload in uploads:
            if published is not None and published.upload == upload:
                continue
            objects = list(bucket.objects(upload_directory(run, upload)))
            if objects and max(stored.modified for stored in objects) < newest:
                yield AbandonedUpload(run, upload, sum(stored.size for stored in objects))


class AbandonedWork(NamedTuple):
    """Partials that a command has sent and not merged."""

    run: str
    size: int
    """bytes"""


def abandoned_work(bucket: Bucket, now: datetime | None = None) -> Iterator[AbandonedWork]:
    """Unfinished work of runs that has not changed for a day; a command that works writes its lease all the time.

    Raises:
        ObjectStorageError: the bucket cannot be listed.
    """
    newest = (datetime.now(UTC) if now is None else now) - ABANDONED
    for run in filter(is_run_name, bucket.directories(WORK)):
        objects = list(bucket.objects(f"{WORK}/{run}"))
        if objects and max(stored.modified for stored in objects) < newest:
            yield AbandonedWork(run, sum(stored.size for stored in objects))


def delete_abandoned_work(bucket: Bucket, run: str) -> None:
    """Delete the unfinished work of a run, with its lease.

    Raises:
        ObjectStorageError: it cannot be listed or deleted.
    """
    bucket.delete(stored.path for stored in bucket.objects(f"{WORK}/{run}"))


def _entry_path(run: str) -> str:
    return f"{RUNS}/{check_run_name(run)}/{MANIFEST}"
