"""Push of a run to a bucket: its files first, several at a time, then its name."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import msgspec

from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import NotFoundError, RunExistsError, StoreError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.run import FileEntry, RunManifest
from tegakari.store.disk.durable import exclusive_lock, random_suffix, write_atomically
from tegakari.store.disk.layout import run_directory, work_directory
from tegakari.store.disk.publish import check_manifest, read_content, run_damage
from tegakari.store.objects.bucket import Bucket
from tegakari.store.objects.published_runs import (
    delete_upload,
    name_taken,
    publish_upload,
    published_run,
    upload_directory,
)
from tegakari.store.objects.transfers import Transfers

FILES_AT_A_TIME = 4

_UPLOAD = "upload.json"


class _Upload(msgspec.Struct, frozen=True):
    """An upload that this store has begun."""

    upload: str
    checksum: str
    """of run.json"""


def push_run(bucket: Bucket, store: Path, run: str, progress: Progress = NoProgress()) -> RunManifest:
    """Publish a copy of a run of a store in a bucket, after comparing every file with its checksum.

    A push that was interrupted resumes: files that are in the bucket are not sent again.

    Args:
        bucket: the run appears there, whole and at once, or not at all.
        store: directory of the store with the run.
        run: name of the run, there and here.
        progress: in MiB.

    Raises:
        NotFoundError: the store has no such run.
        StoreError: a file of the run is damaged, or another process pushes it.
        RunExistsError: the bucket has a run of this name; what was uploaded is deleted.
        ObjectStorageError: the bucket cannot be read or written.
    """
    directory = run_directory(store, run)
    if not directory.is_dir():
        raise NotFoundError(f"no run {run!r} in {store}", field="run", fix="`tegakari runs list` shows the runs")
    if damage := run_damage(directory):
        raise StoreError("; ".join(damage), field=f"run {run}", fix="restore the run from a copy, then push it")
    content = read_content(directory)
    manifest = check_manifest(run, content)
    if published_run(bucket, run) is not None:
        raise name_taken(bucket, run)
    key = hashlib.sha256(repr((bucket.url, run)).encode()).hexdigest()[:16]
    work = work_directory(store, f"push-{key}")
    work.mkdir(parents=True, exist_ok=True)
    busy = StoreError(f"another process pushes run {run}", field="run", fix="wait for it")
    with exclusive_lock(work, busy):
        upload = _own_upload(work / _UPLOAD, manifest)
        _send_files(bucket, directory, manifest, upload, progress)
        try:
            publish_upload(bucket, run, upload, content)
        except RunExistsError:
            delete_upload(bucket, run, upload)
            shutil.rmtree(work)
            raise
        shutil.rmtree(work)
    return manifest


def _own_upload(file: Path, manifest: RunManifest) -> str:
    """Name of the upload of this store: that of an interrupted push of the same run, or a new one."""
    try:
        begun = decode_json(file.read_bytes(), _Upload)
        if begun.checksum == manifest.checksum:
            return begun.upload
    except (FileNotFoundError, msgspec.DecodeError):
        pass
    upload = random_suffix()
    write_atomically(file, msgspec.json.encode(_Upload(upload, manifest.checksum)))
    return upload


def _send_files(bucket: Bucket, directory: Path, manifest: RunManifest, upload: str, progress: Progress) -> None:
    target = upload_directory(manifest.run, upload)
    sizes = {stored.path: stored.size for stored in bucket.objects(target)}
    missing = [entry for entry in manifest.files if sizes.get(f"{target}/{entry.path}") != entry.size]
    total = sum(entry.size for entry in manifest.files)
    transfers = Transfers(progress, f"pushing {manifest.run}", total, total - sum(entry.size for entry in missing))

    def send(entry: FileEntry) -> None:
        bucket.upload(f"{target}/{entry.path}", directory / entry.path)
        transfers.moved(entry.size)

    # The largest first, so that none of them is alone at the end.
    transfers.run(send, sorted(missing, key=lambda entry: -entry.size), FILES_AT_A_TIME)
