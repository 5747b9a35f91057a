"""Files that are whole or absent: written aside, flushed to the disk, then renamed; a full disk is said plainly."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tegakari.schemas.errors import DiskFullError, TegakariError
from tegakari.schemas.run import FileEntry

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def translate_disk_full(
    directory: Path,
    *,
    field: str = "index.store",
    fix: str = "make space and run the same command again; finished work is kept",
) -> Iterator[None]:
    """Turn every library's way of saying that the disk is full into one error.

    Args:
        directory: where the block writes.
        field: the key or option that names it.
        fix: what to do.

    Raises:
        DiskFullError: the block ran out of space below `directory`.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        # DuckDB, Arrow and Lance wrap the system's error in their own types and keep only its words.
        full = getattr(error, "errno", None) in _FULL or "No space left on device" in str(error)
        if not full:
            raise
        raise DiskFullError(
            f"no space left on the disk of {directory}",
            field=field,
            fix=fix,
        ) from error


@contextmanager
def exclusive_lock(path: Path, busy: TegakariError) -> Iterator[None]:
    """Hold a lock for the block; the system drops it when the process dies, however it dies.

    Args:
        path: an existing directory, or a file, which is made where it is not there.
        busy: raised where another process holds the lock.
    """
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of `exclusive_lock` on an existing path."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def fsync_tree(directory: Path) -> None:
    """Flush every file and directory below `directory`, then itself."""
    for root, _, names in os.walk(directory):
        for name in names:
            _fsync(Path(root) / name)
        _fsync(Path(root))


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_into_place(source: Path, target: Path) -> None:
    """Rename on one file system and make the rename itself durable."""
    source.rename(target)
    _fsync(target.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a small file so that it is either absent or complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    rename_into_place(temporary, path)


def checksums(directory: Path, *, leave_out: str) -> list[FileEntry]:
    """Size and SHA-256 of every file below `directory`, by path, except the one named."""
    entries = []
    for file in sorted(directory.rglob("*")):
        name = file.relative_to(directory).as_posix()
        if file.is_file() and name != leave_out:
            entries.append(FileEntry(name, file.stat().st_size, sha256_of(file)))
    return entries


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
