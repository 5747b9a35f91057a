"""Arrays in one file, one after the other, so that a part of one array is read or written without the others.

These files are read once and deleted: nothing is compressed. Reading releases the GIL and keeps no file open.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from numpy.typing import DTypeLike


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


def place_arrays(shapes: Mapping[str, tuple[DTypeLike, Sequence[int]]]) -> dict[str, StoredArray]:
    """Places of arrays that are written later, by their parts; types and shapes by name."""
    places, offset = {}, 0
    for name, (kind, shape) in shapes.items():
        places[name] = StoredArray(np.dtype(kind).str, list(shape), offset)
        offset += np.dtype(kind).itemsize * math.prod(shape)
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


def read_columns(file: Path, array: StoredArray, start: int, stop: int) -> np.ndarray:
    """Read an array from `start` to `stop` on its last axis.

    Raises:
        OSError: the file is missing or ends too early.
    """
    *lines, width = array.shape
    if (start, stop) == (0, width):
        return read_rows(file, array)
    values = np.empty((math.prod(lines), stop - start), array.dtype)
    with file.open("rb", buffering=0) as stream:
        for line, row in enumerate(values):
            if os.preadv(stream.fileno(), [row.data], _place(array, line, start)) != row.nbytes:
                raise OSError(f"{file} ends too early")
    return values.reshape(*lines, stop - start)


def write_rows(file: Path, array: StoredArray, start: int, values: np.ndarray) -> None:
    """Write rows of an array from `start`; the file is created if missing."""
    row = math.prod(array.shape[1:])
    with _open_to_write(file) as stream:
        stream.seek(array.offset + start * row * np.dtype(array.dtype).itemsize)
        stream.write(np.ascontiguousarray(values, array.dtype).data)


def write_columns(file: Path, array: StoredArray, start: int, values: np.ndarray) -> None:
    """Write an array from `start` on its last axis; the file is created if missing."""
    if values.shape[-1] == array.shape[-1]:
        write_rows(file, array, 0, values)
        return
    with _open_to_write(file) as stream:
        for line, row in enumerate(np.ascontiguousarray(values, array.dtype).reshape(-1, values.shape[-1])):
            stream.seek(_place(array, line, start))
            stream.write(row.data)


def _open_to_write(file: Path) -> BinaryIO:
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT, 0o666), "wb")


def _place(array: StoredArray, line: int, start: int) -> int:
    """Byte of an element of the last axis, in one of the lines along it."""
    return array.offset + (line * array.shape[-1] + start) * np.dtype(array.dtype).itemsize
