"""Directories and files of a run or an analysis, which someone else may have made: no way out, bounded reading."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection
from pathlib import Path

from tegakari.schemas.errors import StoreError


def check_contents(directory: Path, names: Collection[str] | None = None) -> None:
    """Refuse a directory that is a link, or that contains anything but directories and files.

    A link leads out of the directory: its target would be read, copied or shown as a part of a run.

    Args:
        directory: of a run, an analysis or added vectors.
        names: what its entries may be called; None: anything. A file beside the known ones can change what a library
            reads, as DuckDB's write-ahead log does.

    Raises:
        FileNotFoundError: the directory does not exist.
        StoreError: names the entry that is refused.
    """
    if directory.is_symlink():
        raise _refusal(directory, "it is a link")
    with os.scandir(directory) as entries:
        unknown = sorted(entry.name for entry in entries if names is not None and entry.name not in names)
    if unknown:
        raise _refusal(directory, f"{unknown[0]!r} is not part of it")
    for root, directories, files, descriptor in os.fwalk(directory):
        for name in (*directories, *files):
            mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                path = os.path.relpath(os.path.join(root, name), directory)  # noqa: PTH118
                raise _refusal(directory, f"{path!r} is a {'link' if stat.S_ISLNK(mode) else 'special file'}")


def read_bounded(file: Path, max_bytes: int) -> bytes:
    """The content of a regular file of bounded size.

    Plain reading would wait for the writer of a pipe, and take as much memory as a sparse file or a device claims.

    Args:
        file: not a link.
        max_bytes: size of its content.

    Raises:
        OSError: it cannot be read, is a link or no regular file, or is larger.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(file))
        if status.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"larger than {max_bytes:,} bytes", str(file))
        return stream.read(max_bytes)


def _refusal(directory: Path, reason: str) -> StoreError:
    return StoreError(
        f"{directory.name} cannot be opened: {reason}",
        field="run",
        fix="delete it, or replace it by a complete copy; a run contains directories and files only",
    )
