"""A lease on a directory of a bucket: one command at a time works there, and a killed one is replaced.

    <directory>/lease/<number>.json    created once by each holder, and written again while it lives

A bucket has no locks that end with their process. The holder of the greatest number has the lease. Whoever wants it
watches that holder: if it does not write for LEASE_SECONDS, the next number is free for the first who creates it; no
two clocks are compared. A holder that was asleep for so long, and is replaced, learns it with its next write. Until
then two commands work at once. What they publish is created once in any case: a lease saves work, and is not needed for
a correct result.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import ObjectStorageError, StoreError
from tegakari.store.disk.durable import random_suffix, write_atomically
from tegakari.store.objects.bucket import Bucket
from tegakari.store.objects.creation import create_once

log = structlog.get_logger()

LEASE = "lease"
LEASE_SECONDS = 120.0
RENEWAL_SECONDS = 30.0
WATCH_SECONDS = 5.0

_MAX_BYTES = 10_000
_NAME = re.compile(r"([0-9]{1,9})\.json")
_OWNER = "owner"


class Holder(msgspec.Struct, frozen=True):
    """Content of a lease."""

    owner: str
    """drawn once per directory of work: the same command, repeated there, goes on with its lease."""
    host: str
    process: int
    renewed: str
    """time, ISO 8601"""


class Lease:
    """A lease that this process holds."""

    def __init__(self, bucket: Bucket, directory: str, work: Path, number: int, owner: str) -> None:
        self._bucket = bucket
        self._directory = directory
        self._work = work
        self._number = number
        self._owner = owner
        self.path = _path(directory, number)

    def renew(self) -> None:
        """Show that this process lives.

        Raises:
            StoreError: another command has replaced it.
            ObjectStorageError: the bucket cannot be written or read.
        """
        file = self._work / "lease.json"
        file.write_bytes(_content(self._owner))
        self._bucket.upload(self.path, file)
        self.check()

    def check(self) -> None:
        """Raise the errors of `renew`, and write nothing."""
        newest = max(_numbers(self._bucket, self._directory), default=self._number)
        if newest > self._number:
            raise StoreError(
                f"another command has taken over {self._bucket.url}/{self._directory}: this one has not written there "
                f"for {LEASE_SECONDS:g} s",
                field="--store",
                fix="let the other one finish",
            )


@contextmanager
def held_lease(bucket: Bucket, directory: str, work: Path) -> Iterator[Lease]:
    """Hold the lease of a directory during the block.

    Args:
        bucket: of the directory.
        directory: path in the bucket.
        work: directory of this machine that remembers the holder; one process at a time uses it.

    Raises:
        StoreError: another command holds the lease.
        ObjectStorageError: the bucket cannot be read or written.
    """
    lease = _acquired(bucket, directory, work)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWAL_SECONDS):
            try:
                lease.renew()
            except StoreError as error:  # the block learns it by `Lease.check`
                log.warning("lease not renewed", reason=error.message)

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    except ObjectStorageError:
        raise  # the lease stays for the same command here, or for others after LEASE_SECONDS
    except BaseException:
        with suppress(ObjectStorageError):
            bucket.delete([lease.path])
        raise
    else:
        bucket.delete([lease.path])
    finally:
        ended.set()
        thread.join()


def _acquired(bucket: Bucket, directory: str, work: Path) -> Lease:
    owner = _own_name(work)
    waited_for = 0
    while True:
        numbers = sorted(_numbers(bucket, directory))
        number = numbers[-1] if numbers else 0
        if number and (content := bucket.read(_path(directory, number), _MAX_BYTES)) is not None:
            holder = _decoded(bucket, directory, number, content)
            if holder.owner == owner:
                lease = Lease(bucket, directory, work, number, owner)
                lease.renew()
                return lease
            if number == waited_for or not _is_dead(bucket, directory, number, content, holder):
                raise _busy(bucket, directory, holder)
            waited_for = number
        content = _content(owner)
        present = create_once(bucket, _path(directory, number + 1), content, _MAX_BYTES)
        if present != content:
            raise _busy(bucket, directory, _decoded(bucket, directory, number + 1, present))
        bucket.delete(_path(directory, earlier) for earlier in numbers)
        return Lease(bucket, directory, work, number + 1, owner)


def _is_dead(bucket: Bucket, directory: str, number: int, content: bytes, holder: Holder) -> bool:
    """Watch a holder; whether its lease does not change for LEASE_SECONDS, or is gone."""
    log.info("waiting for another command, which may have been killed", host=holder.host, seconds=LEASE_SECONDS)
    end = time.monotonic() + LEASE_SECONDS
    while time.monotonic() < end:
        time.sleep(min(WATCH_SECONDS, LEASE_SECONDS))
        if (present := bucket.read(_path(directory, number), _MAX_BYTES)) != content:
            return present is None
    return True


def _busy(bucket: Bucket, directory: str, holder: Holder) -> StoreError:
    return StoreError(
        f"another command works in {bucket.url}/{directory}: process {holder.process} of {holder.host}, "
        f"{holder.renewed}",
        field="--store",
        fix=f"wait for it, or stop it; {LEASE_SECONDS:g} s after it was killed, the same command takes over",
    )


def _own_name(work: Path) -> str:
    file = work / _OWNER
    if not file.is_file():
        write_atomically(file, random_suffix().encode())
    return file.read_text()


def _content(owner: str) -> bytes:
    now = datetime.now(UTC).isoformat()
    return msgspec.json.encode(Holder(owner, socket.gethostname(), os.getpid(), now))


def _decoded(bucket: Bucket, directory: str, number: int, content: bytes) -> Holder:
    try:
        return decode_json(content, Holder)
    except msgspec.DecodeError as error:
        raise ObjectStorageError(
            f"{bucket.url}/{_path(directory, number)} is damaged: {error}", field="store", fix="delete this object"
        ) from None


def _numbers(bucket: Bucket, directory: str) -> list[int]:
    names = (stored.path.rpartition("/")[2] for stored in bucket.objects(f"{directory}/{LEASE}"))
    return [int(match[1]) for name in names if (match := _NAME.fullmatch(name))]


def _path(directory: str, number: int) -> str:
    return f"{directory}/{LEASE}/{number}.json"
