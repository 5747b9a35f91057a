"""A .npy file that is written row after row, so that its array is never in memory as a whole."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike


class NpyFile:
    """Writes one array; a context manager."""

    def __init__(self, path: Path, kind: DTypeLike, *shape: int) -> None:
        """Write the header.

        Args:
            path: of the file.
            kind: type of the values.
            shape: of the whole array.
        """
        self._kind, self._left = np.dtype(kind), math.prod(shape)
        self._stream = path.open("wb")
        np.lib.format.write_array_header_1_0(
            self._stream,
            {"descr": np.lib.format.dtype_to_descr(self._kind), "fortran_order": False, "shape": shape},
        )

    def append(self, values: np.ndarray) -> None:
        """Append rows, or a row; they are converted to the type of the file."""
        self._left -= values.size
        self._stream.write(np.ascontiguousarray(values, self._kind).data)

    def __enter__(self) -> NpyFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stream.close()
        if kind is None and self._left:
            raise ValueError(f"{self._stream.name} lacks {self._left} values")
