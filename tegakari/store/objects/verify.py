"""Comparison of a run in a bucket with its checksums, without a copy of it."""

from __future__ import annotations

import hashlib

from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.run import FileEntry
from tegakari.store.objects.bucket import Bucket
from tegakari.store.objects.published_runs import existing_run, upload_directory
from tegakari.store.objects.transfers import Transfers

FILES_AT_A_TIME = 8


def damaged_objects(bucket: Bucket, run: str, progress: Progress = NoProgress()) -> list[str]:
    """Read every object of a run and compare it with run.json.

    Returns:
        a description per object that is missing or changed, by path.

    Raises:
        NotFoundError: the bucket has no such run.
        StoreError: run.json is damaged or of another format.
        ObjectStorageError: an object cannot be read.
    """
    published = existing_run(bucket, run)
    manifest = published.manifest
    directory = upload_directory(run, published.upload)
    sizes = {stored.path.removeprefix(f"{directory}/"): stored.size for stored in bucket.objects(directory)}
    problems = [f"{entry.path}: missing" for entry in manifest.files if entry.path not in sizes]
    transfers = Transfers(progress, f"verifying {run}", sum(entry.size for entry in manifest.files), 0)

    def compare(entry: FileEntry) -> None:
        if sizes[entry.path] != entry.size:
            problems.append(f"{entry.path}: has {sizes[entry.path]:,} bytes, not {entry.size:,}")
            return
        digest = hashlib.sha256()
        for chunk in bucket.stream(published.path(entry.path), 0, entry.size):
            digest.update(chunk)
            transfers.moved(len(chunk))
        if digest.hexdigest() != entry.sha256:
            problems.append(f"{entry.path}: content differs from its checksum")

    transfers.run(compare, [entry for entry in manifest.files if entry.path in sizes], FILES_AT_A_TIME)
    return sorted(problems)
