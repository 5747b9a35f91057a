"""Results on a GPU whose size and validity the host has not read: one synchronization reads both."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tegakari.kernels.reference import sorted_survivors
from tegakari.kernels.types import EncodeInputs, Rows, Survivors
from tegakari.kernels.validation import check_values, refuse_non_finite


class Flags(NamedTuple):
    """Flags that kernels set for wrong inputs, and the inputs, from which the error is made."""

    flags: tuple[Tensor, ...]
    """int32, non-zero where a kernel met NaN, infinity, a wrong offset or a negative threshold."""
    inputs: EncodeInputs

    def settle(self, count: Tensor | None = None) -> int:
        """Wait for the GPU and return the value of `count`, an int64 scalar on the GPU.

        Raises:
            KernelError: a flag is set.
        """
        maxima = [flags.max().long() for flags in self.flags]
        values = torch.stack(maxima if count is None else [*maxima, count]).tolist()
        if any(values[: len(maxima)]):
            check_values(self.inputs)
            refuse_non_finite(self.inputs.residual, self.inputs.encoder)
        return values[-1]


class CapacityRows(Rows):
    """Rows with a correct `indptr`, whose other tensors are buffers that may be longer or shorter than nnz."""

    flags: Flags
    exact: Callable[[int], Rows]

    @classmethod
    def of(cls, rows: Rows, flags: Flags, exact: Callable[[int], Rows]) -> CapacityRows:
        """Rows in buffers; `exact` encodes again, with room for a given number of pairs, if these are too short."""
        pending = cls(*rows)
        pending.flags, pending.exact = flags, exact
        return pending

    def trimmed(self) -> Rows:
        """Rows in tensors of exactly nnz entries.

        Raises:
            KernelError: the inputs held NaN or infinity, or offsets or thresholds were wrong.
        """
        nnz = self.flags.settle(self.indptr[-1])
        if nnz > len(self.feature):
            return self.exact(nnz)
        # Copied, so that the buffers are freed.
        return Rows(self.indptr, self.feature[:nnz].clone(), self.activation[:nnz].clone())


class CapacitySurvivors(Survivors):
    """Survivors in any order, in buffers that may be longer or shorter than their number."""

    flags: Flags
    number: Tensor
    exact: Callable[[int], Survivors]

    @classmethod
    def of(
        cls, survivors: Survivors, flags: Flags, number: Tensor, exact: Callable[[int], Survivors]
    ) -> CapacitySurvivors:
        """Survivors in buffers, `number` (int64 []) of them; `exact` encodes again, with room for a given number."""
        pending = cls(*survivors)
        pending.flags, pending.number, pending.exact = flags, number, exact
        return pending

    def trimmed(self) -> Survivors:
        """Survivors sorted, in tensors of exactly their number.

        Raises:
            KernelError: the inputs held NaN or infinity, or offsets or thresholds were wrong.
        """
        number = self.flags.settle(self.number)
        if number > len(self.feature):
            return self.exact(number)
        return sorted_survivors(*(values[:number] for values in self))
