"""A store in a bucket: objects by path, streamed, created once, listed, deleted; errors name the missing right."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from tegakari.schemas.errors import BrokenTransferError, ConfigError, ObjectStorageError

SCHEME = "s3://"

CHUNK = 2**20
"""Bytes of a read, at least: what a broken connection can lose."""

UPLOAD_PART = 8 * 2**20
"""Bytes of a part of an upload; S3 takes 10,000 parts per object."""

UPLOAD_CONNECTIONS = 2
"""Parts of one file that are uploaded at a time."""

BROKEN_CONNECTIONS = 4
"""Connections in a row that may break before they bring a byte."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_STATUS = re.compile(r"status code: (\d{3}[\w ]*)")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,300})</Message>")

RIGHTS = {
    "read": "s3:GetObject",
    "write": "s3:PutObject and s3:AbortMultipartUpload",
    "list": "s3:ListBucket",
    "delete": "s3:DeleteObject",
}
"""Action -> the right that S3 asks for."""


class Retry(NamedTuple):
    """How long a request is repeated that a server answers with a status from 500, or not at all."""

    seconds: float = 120
    """from the first attempt to the last"""
    attempts: int = 10
    wait: float = 0.2
    """seconds before the second attempt; they double, with jitter"""
    longest_wait: float = 10
    """seconds"""
    silence: float = 30
    """seconds without a byte after which a request counts as failed"""


class StoredObject(NamedTuple):
    """An object in a listing."""

    path: str
    """below the prefix of the store"""
    size: int
    """bytes"""
    modified: datetime


DEFAULT_RETRY = Retry()


class Bucket:
    """A bucket, or a prefix of one. Safe to share between threads.

    Region, endpoint and credentials are those of the environment: AWS_REGION, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and
    AWS_SECRET_ACCESS_KEY, else the role of the machine, container or pod.
    """

    def __init__(self, url: str, retry: Retry = DEFAULT_RETRY) -> None:
        """Connect to nothing yet.

        Args:
            url: s3://bucket or s3://bucket/prefix.
            retry: of every request.

        Raises:
            ConfigError: the URL names no bucket, or the environment has a wrong setting.
        """
        self.name, self.prefix = _parse(url)
        self._retry = retry
        self.url = f"{SCHEME}{self.name}/{self.prefix}".rstrip("/")
        try:
            self._store = S3Store(
                self.name,
                prefix=self.prefix or None,
                client_options={
                    "allow_http": True,  # where an endpoint of the environment says so
                    "connect_timeout": "10s",
                    "read_timeout": timedelta(seconds=retry.silence),
                    "timeout": "10m",  # of a whole request: a part may be slow as long as it moves
                },
                retry_config={
                    "max_retries": retry.attempts,
                    "retry_timeout": timedelta(seconds=retry.seconds),
                    "backoff": {
                        "init_backoff": timedelta(seconds=retry.wait),
                        "max_backoff": timedelta(seconds=retry.longest_wait),
                        "base": 2,
                    },
                },
            )
        except (BaseError, ValueError) as error:
            raise ConfigError(
                f"{url} cannot be used: {error}", field="store", fix="check the variables AWS_* of the environment"
            ) from error

    def read(self, path: str, max_bytes: int) -> bytes | None:
        """The content of a small object; None: there is none.

        Raises:
            ObjectStorageError: it is larger than `max_bytes`, or cannot be read.
        """
        with self._requests("read", path):
            try:
                result = obstore.get(self._store, path)
                if result.meta["size"] > max_bytes:
                    raise ObjectStorageError(
                        f"{self._place(path)} has {result.meta['size']:,} bytes, more than {max_bytes:,}",
                        field="store",
                        fix="delete the object: tegakari did not write it",
                    )
                return bytes(result.bytes())
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None

    def stream(self, path: str, start: int, end: int) -> Iterator[bytes]:
        """Bytes `start` to `end` of an object, in chunks of at least CHUNK bytes but the last.

        A connection that breaks is replaced by one for the rest.

        Raises:
            FileNotFoundError: there is no such object.
            BrokenTransferError: several connections in a row ended before they brought a byte.
            ObjectStorageError: it cannot be read.
        """
        broken = 0
        while start < end:
            position = start
            try:
                for chunk in self._stream_once(path, start, end):
                    yield chunk
                    start += len(chunk)
            except BrokenTransferError:
                broken = 0 if start > position else broken + 1
                if broken == BROKEN_CONNECTIONS:
                    raise
                time.sleep(self._retry.wait * 2**broken)

    def _stream_once(self, path: str, start: int, end: int) -> Iterator[bytes]:
        with self._requests("read", path, missing=True):
            chunks = iter(obstore.get(self._store, path, options={"range": (start, end)}).stream(CHUNK))
        position = start
        while position < end:
            try:
                chunk = next(chunks)
            except (BaseError, OSError, StopIteration) as error:
                raise BrokenTransferError(
                    f"the connection to {self._place(path)} broke after {position - start:,} of {end - start:,} bytes "
                    f"({_reason(error)})",
                    field="store",
                    fix="check the network, then run the same command again; what was received is kept",
                ) from error
            yield chunk
            position += len(chunk)

    def create(self, path: str, content: bytes) -> bool:
        """Write a small object unless there is one; whether it was written.

        False may also be the answer to a repetition of a request that had succeeded, or to a conflict of two requests
        of which none has succeeded: read the object.

        Raises:
            ObjectStorageError: it cannot be written.
        """
        with self._requests("write", path):
            try:
                obstore.put(self._store, path, content, mode="create")
            except AlreadyExistsError:
                return False
        return True

    def upload(self, path: str, file: Path) -> None:
        """Write a file as an object, in parts if it is large; replaces an object of this path.

        Raises:
            ObjectStorageError: it cannot be written; no object appears.
        """
        size = file.stat().st_size
        with self._requests("write", path):
            obstore.put(
                self._store,
                path,
                file,
                use_multipart=size > UPLOAD_PART,
                chunk_size=max(UPLOAD_PART, -(-size // 9_000)),
                max_concurrency=UPLOAD_CONNECTIONS,
            )

    def objects(self, directory: str) -> Iterator[StoredObject]:
        """Objects below a directory, as many as there are.

        Raises:
            ObjectStorageError: they cannot be listed.
        """
        pages = iter(obstore.list(self._store, prefix=directory))
        while True:
            with self._requests("list", directory):
                page = next(pages, None)
            if page is None:
                return
            for entry in page:
                yield StoredObject(entry["path"], entry["size"], entry["last_modified"])

    def directories(self, directory: str) -> list[str]:
        """Names of the directories in a directory, sorted.

        Raises:
            ObjectStorageError: they cannot be listed.
        """
        with self._requests("list", directory):
            prefixes = obstore.list_with_delimiter(self._store, directory)["common_prefixes"]
        return sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in prefixes)

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects; those that do not exist are skipped.

        Raises:
            ObjectStorageError: one cannot be deleted.
        """
        names = list(paths)
        for start in range(0, len(names), 1000):
            with self._requests("delete", names[start]):
                try:
                    obstore.delete(self._store, names[start : start + 1000])
                except FileNotFoundError as error:
                    if "NoSuchBucket" in str(error):
                        raise

    def _place(self, path: str) -> str:
        return f"{self.url}/{path}"

    @contextmanager
    def _requests(self, action: str, path: str, *, missing: bool = False) -> Iterator[None]:
        """Translate the errors of requests.

        Args:
            action: key of RIGHTS.
            path: of the object or directory.
            missing: let FileNotFoundError pass where the bucket exists.
        """
        try:
            yield
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise self._denied(action, path, error) from error
        except FileNotFoundError as error:
            if missing and "NoSuchBucket" not in str(error):
                raise
            raise self._failed(action, path, error) from error
        except InvalidPathError as error:
            raise ObjectStorageError(
                f"{path!r} is no path of an object: {error}", field="store", fix="delete the object it came from"
            ) from error
        except (BaseError, ValueError) as error:
            # Lists have no error of their own for a status, and replies about several deletions have one per object.
            if re.search(r"status code: (401|403)|code: AccessDenied", str(error)):
                raise self._denied(action, path, error) from error
            raise self._failed(action, path, error) from error

    def _denied(self, action: str, path: str, error: Exception) -> ObjectStorageError:
        resource = f"arn:aws:s3:::{self.name}"
        if action != "list":
            resource += f"/{self.prefix}/*" if self.prefix else "/*"
        fix = f"grant {RIGHTS[action]} on {resource}, or check the credentials in the environment"
        if action == "read":  # S3 hides which objects exist from those who must not list them
            fix += f"; without s3:ListBucket on arn:aws:s3:::{self.name} a missing object is refused as well"
        return ObjectStorageError(
            f"no right to {action} {self._place(path)} ({_reason(error)})", field="store", fix=fix
        )

    def _failed(self, action: str, path: str, error: Exception) -> ObjectStorageError:
        text = str(error)
        if "NoSuchBucket" in text:
            return ObjectStorageError(
                f"there is no bucket {self.name!r}", field="store", fix="create it, or check name and AWS_ENDPOINT_URL"
            )
        if re.search(r"status code: 30[17]", text) or "missing LOCATION" in text:
            fix = "set AWS_REGION to the region of the bucket"
        elif _STATUS.search(text):
            fix = "run the same command again; finished work is kept"
        else:
            fix = "check the network and AWS_ENDPOINT_URL, then run the same command again; finished work is kept"
        return ObjectStorageError(f"could not {action} {self._place(path)} ({_reason(error)})", field="store", fix=fix)


def is_bucket(store: str) -> bool:
    """Whether the name of a store is that of a bucket rather than a directory."""
    return store.startswith(SCHEME)


def _parse(url: str) -> tuple[str, str]:
    bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
    prefix = prefix.strip("/")
    if not is_bucket(url) or not _BUCKET.fullmatch(bucket):
        raise ConfigError(f"{url!r} names no bucket", field="store", fix="write s3://bucket or s3://bucket/prefix")
    if any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
        raise ConfigError(f"{url!r} has an empty or relative part", field="store", fix="write s3://bucket/prefix")
    return bucket, prefix


def _reason(error: Exception) -> str:
    """Status, code and message of the server, or the innermost cause, in one line."""
    text = str(error).partition("Debug source")[0]
    parts = [match[1].strip() for pattern in (_STATUS, _CODE, _MESSAGE) if (match := pattern.search(text))]
    return ", ".join(parts) or " ".join(text.split())[-300:] or "no more bytes came"
