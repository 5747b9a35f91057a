"""The compiled pass of one encode call on the CPU: its tables, and the ranges of features of its threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tegakari.kernels.cpu import loops
from tegakari.kernels.types import Columns, Encoder, Pooled, Rows, Survivors

Map = Callable[..., Iterable[Any]]
"""`map`, or the `map` of an executor."""


class _Pairs(NamedTuple):
    """Buffers of (feature, position, activation) entries."""

    feature: NDArray[np.int32]
    position: NDArray[np.int32]
    activation: NDArray[np.float32]

    @classmethod
    def of(cls, entries: int) -> _Pairs:
        """Uninitialized buffers."""
        integers = torch.empty(2, entries, dtype=torch.int32).numpy()  # unwritten pages cost nothing
        return cls(integers[0], integers[1], torch.empty(entries).numpy())

    def first(self, n: int) -> _Pairs:
        """Copy of the first n entries."""
        return _Pairs(self.feature[:n].copy(), self.position[:n].copy(), self.activation[:n].copy())


class _Range(NamedTuple):
    """Features lo:hi in `blocks` blocks, the first of which is number `first_block`."""

    lo: int
    hi: int
    first_block: int
    blocks: int


class ChunkPass:
    """Pass over the chunks of one call, which `add` receives in order.

    Attributes:
        pooled, columns: complete after the last chunk.
        finite: False once a pre-activation was NaN or infinite.
    """

    def __init__(self, encoder: Encoder, offsets: Tensor, floor: Tensor | None, threads: int, map_: Map) -> None:
        d_sae = encoder.weight.shape[1]
        self.pooled = Pooled(*(torch.empty(len(offsets) - 1, d_sae) for _ in range(3)))
        self.columns = Columns(
            torch.zeros(d_sae, dtype=torch.int64), torch.zeros(d_sae, dtype=torch.float64), torch.zeros(d_sae)
        )
        self.finite = True
        self._k = encoder.k
        self._threads = threads
        self._map = map_
        self._ranges = _ranges(d_sae, threads)
        self._gates = _gates(encoder)
        self._offsets = _array(offsets)
        self._carry = torch.empty(d_sae, dtype=torch.float64).numpy()
        self._floor = np.empty(0, np.float32) if floor is None else _array(floor)
        self._survivors: list[list[_Pairs]] = [[] for _ in self._ranges]

    def add(self, product: Tensor, first: int, *, pairs: bool) -> Rows | None:
        """Gate, pool and count a chunk, and collect its survivors.

        Args:
            product: [n, d_sae] float32.
            first: row of the residual that is the chunk's row 0.
            pairs: whether to return the chunk's active pairs.
        """
        chunk = product.numpy()
        n = len(chunk)
        cuts = self._cuts(chunk)
        blocks = self._ranges[-1].first_block + self._ranges[-1].blocks if pairs else 0
        counts = torch.empty(n, blocks, dtype=torch.int32).numpy()

        document = int(np.searchsorted(self._offsets, first, side="right")) - 1

        def pool(part: _Range) -> tuple[_Pairs, _Pairs, bool]:
            entries = n * (part.hi - part.lo)
            surviving = _Pairs.of(entries if len(self._floor) else 0)
            active = _Pairs.of(entries if pairs else 0)
            n_surviving, _, bad = loops.pool(
                chunk,
                first,
                document,
                part.lo,
                part.hi,
                self._gates,
                cuts,
                self._offsets,
                tuple(table.numpy() for table in self.pooled),
                (self.columns.count.numpy(), self.columns.total.numpy(), self.columns.maximum.numpy()),
                self._carry,
                self._floor,
                surviving,
                active,
                counts[:, part.first_block : part.first_block + part.blocks],
            )
            return surviving.first(n_surviving), active, bool(bad)

        results = list(self._map(pool, self._ranges))
        for collected, (surviving, _, bad) in zip(self._survivors, results, strict=True):
            collected.append(surviving)
            self.finite &= not bad
        return self._csr(counts, [active for _, active, _ in results]) if pairs else None

    def survivors(self, *, ordered: bool) -> Survivors | None:
        """Survivors of all chunks, sorted or in any order; None without a floor."""
        if not len(self._floor):
            return None

        def sort(part: _Range, collected: list[_Pairs]) -> _Pairs:
            joined = _Pairs(*(np.concatenate(column) for column in zip(*collected, strict=True)))
            if ordered:
                loops.sort_survivors(*joined, part.lo, part.hi)
            return joined

        ranges = list(self._map(sort, self._ranges, self._survivors))
        return Survivors(*(torch.from_numpy(np.concatenate(column)) for column in zip(*ranges, strict=True)))

    def _cuts(self, chunk: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """TopK: value and feature of the last active entry of each row; empty for other SAEs."""
        n = len(chunk) if self._k else 0
        values, features = torch.empty(n).numpy(), torch.empty(n, dtype=torch.int64).numpy()
        if self._k:
            k, bounds = self._k, np.linspace(0, n, self._threads + 1).astype(int)

            def cut(lo: int, hi: int) -> None:
                loops.cut_rows(chunk, lo, hi, k, self._gates, values, features)

            list(self._map(cut, bounds[:-1], bounds[1:]))
        return values, features

    def _csr(self, counts: NDArray[np.int32], pairs: list[_Pairs]) -> Rows:
        """CSR of the pairs of all ranges; counts [n, blocks] are the pairs of a row and block."""
        ends = np.cumsum(counts, dtype=np.int64).reshape(counts.shape)
        starts = ends - counts
        nnz = int(ends[-1, -1])
        rows = Rows(
            torch.from_numpy(np.append(starts[:, 0], nnz)), torch.empty(nnz, dtype=torch.int32), torch.empty(nnz)
        )

        def place(part: _Range, range_pairs: _Pairs) -> None:
            blocks = slice(part.first_block, part.first_block + part.blocks)
            loops.place(
                counts[:, blocks], starts[:, blocks], range_pairs, rows.feature.numpy(), rows.activation.numpy()
            )

        list(self._map(place, self._ranges, pairs))
        return rows


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().contiguous().numpy()


def _gates(encoder: Encoder) -> tuple[NDArray[np.float32], ...]:
    """Scale, shift, opening and threshold: a = y * scale + shift, active where a > threshold and y + opening > 0."""
    bias = _array(encoder.bias)
    if encoder.gate_scale is not None and encoder.gate_bias is not None:
        return _array(encoder.gate_scale), _array(encoder.gate_bias), bias, np.zeros_like(bias)
    return np.ones_like(bias), bias, np.full_like(bias, np.inf), _array(encoder.threshold)


def _ranges(d_sae: int, threads: int) -> list[_Range]:
    """One range of features per thread, of a multiple of 64 features."""
    width = -(-d_sae // threads)
    width = -(-width // 64) * 64
    ranges: list[_Range] = []
    first_block = 0
    for lo in range(0, d_sae, width):
        hi = min(lo + width, d_sae)
        blocks = -(-(hi - lo) // loops.BLOCK)
        ranges.append(_Range(lo, hi, first_block, blocks))
        first_block += blocks
    return ranges
