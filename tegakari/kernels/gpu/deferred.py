"""Results whose size and soundness only the GPU knows until the host asks: one synchronisation settles both."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tegakari.kernels.reference import sorted_survivors
from tegakari.kernels.types import Encoder, Rows, Survivors
from tegakari.kernels.validation import check_values, refuse_non_finite


class Flags(NamedTuple):
    """What kernels noticed, and what is needed to say it in words."""

    raised: tuple[Tensor, ...]
    """int32, non-zero where a kernel met NaN, infinity, a wrong offset or a negative threshold."""
    residual: Tensor
    encoder: Encoder
    offsets: Tensor
    floor: Tensor | None

    def settle(self, count: Tensor | None = None) -> int:
        """Wait for the GPU and return `count`.

        Raises:
            KernelError: a flag is raised.
        """
        worst = [flag.max().long() for flag in self.raised]
        values = torch.stack(worst if count is None else [*worst, count]).tolist()
        if any(values[: len(worst)]):
            check_values(self.encoder, self.offsets, len(self.residual), self.floor)
            refuse_non_finite(self.residual, self.encoder)
        return values[-1]


class CapacityRows(Rows):
    """Rows with a true `indptr` whose other tensors are buffers: perhaps longer than nnz, perhaps shorter."""

    flags: Flags
    exact: Callable[[int], Rows]

    @classmethod
    def of(cls, rows: Rows, flags: Flags, exact: Callable[[int], Rows]) -> CapacityRows:
        """`exact` makes the rows again, with room for a given number of pairs, for when there was too little."""
        pending = cls(*rows)
        pending.flags, pending.exact = flags, exact
        return pending

    def trimmed(self) -> Rows:
        """Return the rows in tensors of exactly nnz entries.

        Raises:
            KernelError: the inputs held NaN or infinity, or offsets or thresholds were wrong.
        """
        nnz = self.flags.settle(self.indptr[-1])
        if nnz > len(self.feature):
            return self.exact(nnz)
        # Copied, so that the rest of the buffer is free.
        return Rows(self.indptr, self.feature[:nnz].clone(), self.activation[:nnz].clone())


class CapacitySurvivors(Survivors):
    """Survivors in the order of positions, in buffers that are perhaps longer than they are many, perhaps shorter."""

    flags: Flags
    found: Tensor
    exact: Callable[[int], Survivors]

    @classmethod
    def of(
        cls, survivors: Survivors, flags: Flags, found: Tensor, exact: Callable[[int], Survivors]
    ) -> CapacitySurvivors:
        """`found` is how many there are, int64 []; `exact` finds them again, with room for a given number."""
        pending = cls(*survivors)
        pending.flags, pending.found, pending.exact = flags, found, exact
        return pending

    def trimmed(self) -> Survivors:
        """Return the survivors sorted, in tensors of exactly that length.

        Raises:
            KernelError: the inputs held NaN or infinity, or offsets or thresholds were wrong.
        """
        found = self.flags.settle(self.found)
        if found > len(self.feature):
            return self.exact(found)
        return sorted_survivors(*(values[:found] for values in self))
