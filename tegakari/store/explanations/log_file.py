"""The log of explanations of a run on disk: `explanations/<run>-<fingerprint>/log.jsonl`, appended under a lock.

A writer adds whole lines and flushes them to the disk. A reader needs no lock: it reads on where it stopped, up to the
last end of a line, so that it never sees a part of one. What a killed writer has left of a line is removed by the next.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import StoreError
from tegakari.schemas.explanation_log import EXPLANATION_LOG_FORMAT, LogEvent, LogHeader, LogLine
from tegakari.schemas.run import RunManifest
from tegakari.store.disk.durable import fsync, translate_disk_full
from tegakari.store.disk.layout import explanations_directory

MAX_LINE = 128 * 2**10
"""Maximum size of a line in bytes; longer ones are left out."""
MAX_LOG = 512 * 2**20
"""Maximum size of a log in bytes: nothing is written beyond, and nothing is read."""

FILE = "log.jsonl"

_CHUNK = 2**22
_BATCH = 1000
_DECODER = msgspec.json.Decoder(LogLine)
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

log = structlog.get_logger()


class Place(NamedTuple):
    """Where a reader has stopped: a file, by device and inode, and the bytes of it that were read."""

    device: int
    inode: int
    size: int


def log_directory(store: Path, manifest: RunManifest) -> Path:
    """Directory of a run's log."""
    return explanations_directory(store, manifest)


def is_linked(directory: Path) -> bool:
    """Whether the directory of a log, or the one above it, is a link, which would lead out of the store."""
    return directory.is_symlink() or directory.parent.is_symlink()


def read_lines(directory: Path, place: Place | None) -> tuple[bool, list[bytes], Place | None]:
    """Whole lines of a log that were written since it was last read.

    Args:
        directory: of the log.
        place: where the reader stopped; None: at the beginning.

    Returns:
        whether the log is another one than at `place`, so that what was read of it before does not count; the lines,
        without line feeds; the new place, None if there is no log.
    """
    try:
        descriptor = os.open(directory / FILE, os.O_RDONLY | _FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return place is not None, [], None
    except OSError as error:
        log.warning("explanations left out", directory=directory.name, reason=error.strerror)
        return place is not None, [], None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_LOG or is_linked(directory):
            reason = f"the log is a link, no regular file, or larger than {MAX_LOG:,} bytes"
            log.warning("explanations left out", directory=directory.name, reason=reason)
            return place is not None, [], None
        changed = place is not None and not _goes_on(descriptor, status, place)
        start = 0 if place is None or changed else place.size
        content = _read_from(descriptor, start, status.st_size)
    finally:
        os.close(descriptor)
    end = content.rfind(b"\n") + 1
    return changed, content[:end].split(b"\n")[:-1], Place(status.st_dev, status.st_ino, start + end)


def _goes_on(descriptor: int, status: os.stat_result, place: Place) -> bool:
    """Whether a log is the one at `place`, and has the end of a line there: a failed writer may have cut it."""
    same_file = (place.device, place.inode) == (status.st_dev, status.st_ino) and place.size <= status.st_size
    return same_file and (place.size == 0 or os.pread(descriptor, 1, place.size - 1) == b"\n")


def _read_from(descriptor: int, start: int, end: int) -> bytes:
    parts = []
    while start < end and (part := os.pread(descriptor, min(_CHUNK, end - start), start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def decode_lines(directory: Path, lines: Sequence[bytes]) -> Iterator[LogLine]:
    """The lines of a log; damaged ones are logged and left out."""
    damaged = 0
    for start in range(0, len(lines), _BATCH):
        batch = lines[start : start + _BATCH]
        try:  # twice as fast as line by line
            if max(map(len, batch)) > MAX_LINE:
                raise msgspec.DecodeError(f"longer than {MAX_LINE:,} bytes")  # noqa: TRY301
            yield from _DECODER.decode_lines(b"\n".join(batch).decode("utf-8"))
            continue
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            pass
        for line in batch:
            try:
                if len(line) > MAX_LINE:
                    raise msgspec.DecodeError(f"longer than {MAX_LINE:,} bytes")  # noqa: TRY301
                yield decode_json(line, LogLine)  # type: ignore[arg-type]  # a union is no class
            except msgspec.DecodeError as error:
                if damaged == 0:
                    log.warning("line of the explanations left out", directory=directory.name, reason=str(error))
                damaged += 1
    if damaged > 1:
        log.warning("lines of the explanations left out", directory=directory.name, lines=damaged)


def is_header_of(line: LogLine, manifest: RunManifest) -> bool:
    """Whether a line is the first one of a log of this run, in a format that this version reads."""
    return (
        isinstance(line, LogHeader)
        and line.format <= EXPLANATION_LOG_FORMAT
        and line.fingerprint == manifest.fingerprint
    )


class LogWriter:
    """The log of a run, opened and locked for writing."""

    def __init__(self, descriptor: int, directory: Path, manifest: RunManifest) -> None:
        self._descriptor = descriptor
        self._directory = directory
        self._manifest = manifest

    def append(self, events: Sequence[LogEvent]) -> None:
        """Append events; all of them are on the disk afterwards, or none is in the log.

        Raises:
            StoreError: the log is full, or belongs to another run.
            OSError: it cannot be written.
        """
        if not events:
            return
        size = self._repaired_size()
        lines: list[LogLine] = list(events)
        if size == 0:
            header = LogHeader(
                format=EXPLANATION_LOG_FORMAT, run=self._manifest.run, fingerprint=self._manifest.fingerprint
            )
            lines.insert(0, header)
        content = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        if size + len(content) > MAX_LOG:
            raise StoreError(
                f"the log of explanations would be larger than {MAX_LOG:,} bytes",
                field="explanation",
                fix=f"move {self._directory.name} out of the store's directory `explanations`",
            )
        try:
            written = 0
            while written < len(content):
                written += os.pwrite(self._descriptor, content[written:], size + written)
            os.fsync(self._descriptor)
            if size == 0:
                fsync(self._directory)
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise

    def _repaired_size(self) -> int:
        """Size of the log in bytes, once the beginning of a line at its end is removed.

        Raises:
            StoreError: the log belongs to another run.
        """
        size = os.fstat(self._descriptor).st_size
        first = os.pread(self._descriptor, MAX_LINE, 0).partition(b"\n")
        if size and first[1]:
            header = next(decode_lines(self._directory, [first[0]]), None)
            if header is None or not is_header_of(header, self._manifest):
                raise StoreError(
                    f"the log in {self._directory.name} belongs to another run or version",
                    field="explanation",
                    fix="move it out of the store's directory `explanations`",
                )
        end = size
        while end:  # usually one step: the last byte is a line feed
            start = max(0, end - MAX_LINE)
            position = os.pread(self._descriptor, end - start, start).rfind(b"\n")
            end = start + position + 1 if position >= 0 else start
            if position >= 0:
                break
        if end < size:
            log.warning("unfinished line of the explanations removed", directory=self._directory.name)
            os.ftruncate(self._descriptor, end)
        return end


@contextmanager
def locked_log(store: Path, manifest: RunManifest) -> Iterator[LogWriter]:
    """The log of a run for writing; its directory is made if it is missing. One process at a time writes.

    Raises:
        DiskFullError: no space; nothing is added.
        StoreError: it is a link, or cannot be written.
    """
    directory = log_directory(store, manifest)
    if is_linked(directory):
        raise StoreError(
            "cannot write explanations: their directory is a link", field="explanation", fix="put a directory there"
        )
    try:
        with translate_disk_full(store, field="explanation", fix="make space and write the explanation again"):
            directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(directory / FILE, os.O_RDWR | os.O_CREAT | _FLAGS, 0o644)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise OSError(errno.EINVAL, "the log is not a regular file")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield LogWriter(descriptor, directory, manifest)
            finally:
                os.close(descriptor)
    except OSError as error:
        raise StoreError(
            f"cannot write explanations: {error.strerror or error}",
            field="explanation",
            fix="make the store's directory `explanations` writable",
        ) from None
