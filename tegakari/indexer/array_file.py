"""Arrays in one file, one after the other, so that a range of rows of one array is read without the others.

Partials are read once and deleted: nothing is compressed. Reading releases the GIL and keeps no file open.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np


class StoredArray(msgspec.Struct, frozen=True):
    """Where an array is in its file."""

    dtype: str
    shape: list[int]
    offset: int
    """bytes before it."""


def write_arrays(file: Path, arrays: Iterable[tuple[str, np.ndarray]]) -> dict[str, StoredArray]:
    """Write arrays and return the place of each by its name."""
    places = {}
    with file.open("wb") as stream:
        for name, array in arrays:
            places[name] = StoredArray(array.dtype.str, list(array.shape), stream.tell())
            stream.write(np.ascontiguousarray(array).data)
    return places


def read_rows(file: Path, array: StoredArray, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Read the rows from `start` to `stop` (default: all) of an array.

    Raises:
        OSError: the file is missing or ends too early.
    """
    rows, *rest = array.shape
    stop = rows if stop is None else stop
    kind = np.dtype(array.dtype)
    row = math.prod(rest)
    values = np.fromfile(file, kind, (stop - start) * row, offset=array.offset + start * row * kind.itemsize)
    if len(values) != (stop - start) * row:
        raise OSError(f"{file} ends too early")
    return values.reshape(stop - start, *rest)
