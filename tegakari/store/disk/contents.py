"""Check of the directory of a run or an analysis, which someone else may have made: files, and no way out of it."""

from __future__ import annotations

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


def _refusal(directory: Path, reason: str) -> StoreError:
    return StoreError(
        f"{directory.name} cannot be opened: {reason}",
        field="run",
        fix="delete it, or replace it by a complete copy; a run contains directories and files only",
    )
