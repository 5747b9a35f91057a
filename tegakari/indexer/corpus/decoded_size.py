"""Bounds on what a file of a corpus decodes to: a few kilobytes can stand for terabytes."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tegakari.schemas.errors import CorpusError

MAX_RATIO = 1000
"""Largest ratio of decoded to stored bytes. Text compresses to a tenth; a column of equal values is stored once."""

FREE_BYTES = 2**30
"""Decoded bytes up to which the ratio does not matter."""

STEP_BYTES = 3 * 2**30
"""Memory that decoding one part of a file may take in addition; Arrow reserves one GiB when it starts."""

_ROW_BYTES = 64
"""Counted per row beside its text."""

_FIX = "check where the file comes from: it looks like one that is made to fill the memory"


class DecodedSize:
    """Counts what has been decoded of a file."""

    def __init__(self, path: Path, *more: Path) -> None:
        """Start with nothing decoded.

        Args:
            path: of the file.
            more: further files that are decoded with it.
        """
        self._path = path
        self._stored = sum(file.stat().st_size for file in (path, *more))
        self._limit = max(FREE_BYTES, MAX_RATIO * self._stored)
        self._decoded = 0

    def add(self, size: int, rows: int = 1) -> None:
        """Count rows of so many bytes together.

        Raises:
            CorpusError: the file decodes to more than its limit.
        """
        self._decoded += size + rows * _ROW_BYTES
        self.check(self._decoded)

    def check(self, size: int) -> None:
        """Compare a number of bytes that a file says it decodes to with the limit.

        Raises:
            CorpusError: it is larger.
        """
        if size > self._limit:
            raise CorpusError(
                f"{self._path} has {self._stored:,} bytes and decodes to {size:,} or more; the limit is "
                f"{self._limit:,}, {MAX_RATIO} bytes per byte",
                field="corpus.source",
                fix=_FIX,
            )


@contextmanager
def limited_memory(path: Path) -> Iterator[None]:
    """Let the kernel refuse memory beyond STEP_BYTES during the block, which decodes one part of a file.

    What a file says about its sizes can be wrong, and libraries reserve memory by what they find while they decode.

    Raises:
        CorpusError: the block needs more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    limit = pages * resource.getpagesize() + STEP_BYTES
    lower = [value for value in (limit, soft, hard) if value != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(lower), hard))
    try:
        yield
    except MemoryError:  # Arrow's is one as well
        raise CorpusError(
            f"a part of {path} needs more than {STEP_BYTES:,} bytes of memory",
            field="corpus.source",
            fix=f"write the file again with smaller row groups or batches, or {_FIX}",
        ) from None
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
