"""Objects that are created once, by whoever comes first: of several writers, all learn who it was."""

from __future__ import annotations

import time

from tegakari.schemas.errors import ObjectStorageError
from tegakari.store.objects.bucket import Bucket

CREATION_ATTEMPTS = 6
CREATION_SECONDS = 0.2
"""Wait before the second attempt to create an object; it doubles."""


def create_once(bucket: Bucket, path: str, content: bytes, max_bytes: int) -> bytes:
    """Write a small object unless there is one, and return what is there afterwards.

    Args:
        bucket: of the object.
        path: of the object.
        content: of this writer alone: if it is there afterwards, this writer was first.
        max_bytes: size of the object that another writer may have created.

    Raises:
        ObjectStorageError: it cannot be written or read.
    """
    for attempt in range(CREATION_ATTEMPTS):
        if bucket.create(path, content):
            return content
        # An earlier request of this writer may have succeeded without a reply; S3 may refuse two writers at once (409),
        # and neither has written.
        present = bucket.read(path, max_bytes)
        if present is not None:
            return present
        time.sleep(CREATION_SECONDS * 2**attempt)
    raise ObjectStorageError(
        f"{bucket.url}/{path} could not be created, and there is none",
        field="store",
        fix="run the same command again; finished work is kept",
    )
