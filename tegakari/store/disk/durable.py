"""Files and directories that are whole or absent after a crash: staged, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from tegakari.schemas.errors import DiskFullError, StoreError, TegakariError
from tegakari.schemas.run import FileEntry

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

GRAVE = ".deleted-"
"""Prefix of the name of a directory whose files are being removed. No run has such a name."""

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}")


@contextmanager
def translate_disk_full(
    directory: Path,
    *,
    field: str,
    fix: str = "make space and run the same command again; finished work is kept",
) -> Iterator[None]:
    """Translate the errors with which libraries report a full disk into one error.

    Args:
        directory: the directory that the block writes to.
        field: key or option that names the directory.
        fix: what the user can do.

    Raises:
        DiskFullError: the block ran out of space below `directory`.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        # DuckDB, Arrow and Lance wrap the system's error in types of their own and keep only its text.
        disk_full = getattr(error, "errno", None) in _DISK_FULL or "No space left on device" in str(error)
        if not disk_full:
            raise
        raise DiskFullError(f"no space left on the disk of {directory}", field=field, fix=fix) from error


@contextmanager
def exclusive_lock(path: Path, busy: TegakariError) -> Iterator[None]:
    """Hold a lock during the block; the system releases it when the process ends, even by `kill -9`.

    Args:
        path: an existing directory, or a file, which is created if missing.
        busy: raised if another process holds the lock.
    """
    with _lock(path, fcntl.LOCK_EX, busy):
        yield


@contextmanager
def shared_lock(path: Path, busy: TegakariError) -> Iterator[None]:
    """As `exclusive_lock`, but several processes can hold it, while none holds the exclusive one."""
    with _lock(path, fcntl.LOCK_SH, busy):
        yield


@contextmanager
def awaited_lock(path: Path) -> Iterator[None]:
    """As `exclusive_lock`, after waiting until no other process holds it."""
    with _lock(path, fcntl.LOCK_EX, None):
        yield


@contextmanager
def _lock(path: Path, operation: int, busy: TegakariError | None) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, operation | (0 if busy is None else fcntl.LOCK_NB))
        except BlockingIOError:
            assert busy is not None
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


@contextmanager
def staged_directory(target: Path, staged: Path | None = None) -> Iterator[Path]:
    """An empty directory for the block to fill; after the block it is flushed and renamed to `target`.

    If the block or the rename fails, the staged directory is removed and nothing appears at `target`. What a killed
    process left at `staged` is removed at the next start. The directory is locked meanwhile, as work in use.

    Args:
        target: path of the whole directory; its parents are created.
        staged: path of the directory until then, on the file system of `target` and used by one process at a time;
            default: `.<name>.part` beside `target`.

    Raises:
        FileExistsError: `target` is a directory that contains a file.
    """
    staged = target.with_name(f".{target.name}.part") if staged is None else staged
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    busy = StoreError(f"{staged} is used by another process", field="store", fix="wait for it, then repeat the command")
    try:
        with exclusive_lock(staged, busy):
            yield staged
            publish_directory(staged, target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def publish_directory(staged: Path, target: Path) -> None:
    """Flush everything below `staged`, then rename it to `target`, whose parents are created.

    Raises:
        FileExistsError: `target` is a directory that contains a file.
    """
    fsync_tree(staged)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_without_files(target)
    try:
        rename_into_place(staged, target)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:  # file systems may report either of the two
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        raise


def remove_without_files(directory: Path) -> None:
    """Remove a directory in which there are only directories; one that contains a file stays, with all that is in it.

    A library that opens a table by its path may create the directories of a run that is deleted at that moment.
    """
    with suppress(OSError):  # rmdir refuses what is not empty, also what is filled at this moment
        if directory.is_symlink() or any(names for _, _, names in os.walk(directory)):
            return
        for root, _, _ in os.walk(directory, topdown=False):
            Path(root).rmdir()


def bury(directory: Path, graveyard: Path | None = None) -> None:
    """Take a directory out of sight with one rename, then remove its files.

    What a process that is killed meanwhile leaves of it is a grave (`is_grave`), and so are files that cannot be
    removed.

    Args:
        directory: the directory to remove.
        graveyard: directory of the grave, created if missing, on the same file system; default: the parent.

    Raises:
        FileNotFoundError: there is no such directory; another process may have removed it.
    """
    graveyard = directory.parent if graveyard is None else graveyard
    graveyard.mkdir(parents=True, exist_ok=True)
    grave = graveyard / f"{GRAVE}{random_suffix()}"
    rename_into_place(directory, grave)
    shutil.rmtree(grave, ignore_errors=True)


def is_grave(path: Path) -> bool:
    """Whether a path is the remainder of a deletion."""
    return path.name.startswith(GRAVE)


def is_temporary(path: Path) -> bool:
    """Whether a path is named as the unfinished file of `write_atomically`, which a killed process leaves."""
    return _TEMPORARY.fullmatch(path.name) is not None


def random_suffix() -> str:
    """Sixteen hexadecimal digits that no other process, thread or container draws."""
    return os.urandom(8).hex()


def fsync_tree(directory: Path) -> None:
    """Flush every file and directory below `directory`, then `directory` itself."""
    for root, _, names in os.walk(directory):
        for name in names:
            fsync(Path(root) / name)
        fsync(Path(root))


def fsync(path: Path) -> None:
    """Flush a file, or the names in a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_into_place(source: Path, target: Path) -> None:
    """Rename on one file system and flush the rename itself."""
    source.rename(target)
    fsync(target.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a small file so that it is either absent, as before, or complete."""
    temporary = path.with_name(f".{path.name}.{random_suffix()}")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        rename_into_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def checksums(directory: Path, *, exclude: str) -> list[FileEntry]:
    """Size and SHA-256 of every file below `directory`, ordered by path; computed on threads.

    Args:
        directory: read recursively.
        exclude: path of a file, relative to `directory`, that is not listed.
    """

    def entry(file: Path) -> FileEntry:
        return FileEntry(file.relative_to(directory).as_posix(), file.stat().st_size, sha256_of(file))

    files = [file for file in sorted(directory.rglob("*")) if file.is_file() and file != directory / exclude]
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="sha256") as pool:
        return list(pool.map(entry, files))


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
