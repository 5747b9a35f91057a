"""Ranges of a file that have been received, in a journal beside it, so that a broken transfer repeats no byte."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_RECORD = struct.Struct("<QQ")


class Range(NamedTuple):
    """Bytes of a file."""

    start: int
    end: int
    """the first byte after it"""


class PartialFile:
    """A file that is written range by range, by one process; several threads may each open it."""

    def __init__(self, file: Path, journal: Path) -> None:
        """Open or create both files; their directories exist."""
        self._file = os.open(file, _FLAGS, 0o644)
        try:
            self._journal = os.open(journal, _FLAGS | os.O_APPEND, 0o644)
        except OSError:
            os.close(self._file)
            raise

    def write(self, start: int, content: bytes) -> None:
        """Write bytes at a position, then record them.

        Raises:
            OSError: the disk is full, or fails.
        """
        view = memoryview(content)
        written = 0
        while written < len(view):
            written += os.pwrite(self._file, view[written:], start + written)
        os.write(self._journal, _RECORD.pack(start, start + written))

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)
        os.close(self._journal)


def missing_ranges(journal: Path, size: int) -> list[Range]:
    """What has not been received of a file.

    Args:
        journal: of the file; need not exist.
        size: of the whole file, bytes.
    """
    try:
        content = journal.read_bytes()
    except FileNotFoundError:
        content = b""
    whole = len(content) - len(content) % _RECORD.size
    if whole < len(content):  # a process was killed while it wrote: what it appended later would be out of step
        os.truncate(journal, whole)
    missing, position = [], 0
    for start, end in sorted(_RECORD.iter_unpack(content[:whole])):
        if start > position:
            missing.append(Range(position, min(start, size)))
        position = max(position, end)
    if position < size:
        missing.append(Range(position, size))
    return [part for part in missing if part.start < part.end]
