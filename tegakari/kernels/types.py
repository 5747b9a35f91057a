"""Inputs and results of sparse encode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
import torch
from torch import Tensor

InputNorm = Literal["none", "constant_norm", "layer_norm"]
"""Per-token normalisation of an SAE's input: `x = h`, `x = sqrt(d_model) h / ||h||`, or
`x = (h - mean(h)) / (std(h) + 1e-5)`, with mean and standard deviation (of d_model - 1) over d_model."""


class Encoder(NamedTuple):
    """Weights of one SAE for encode, with the input scale and `b_dec` already folded into `weight` and `bias`.

    The pre-activation of feature f at a position with residual h is `factor(h) * (weight[:, f] . h) + bias[f]`. The
    factor is 1 without an input norm; with a gate, y below includes it.
    """

    weight: Tensor
    """W_enc, [d_model, d_sae], float32 or bfloat16: the dtype that encode computes in."""
    bias: Tensor
    """[d_sae] float32."""
    threshold: Tensor
    """[d_sae] float32, >= 0. A feature is active where its pre-activation is > threshold: 0 for ReLU, theta for
    JumpReLU and for BatchTopK at inference."""
    k: int | None = None
    """TopK: of a position's features above their threshold, the k with the largest pre-activations are active.
    Ties go to the lower feature index."""
    gate_scale: Tensor | None = None
    """[d_sae] float32. Gated SAE, with y = weight^T h: active where y + bias > 0 and y * gate_scale + gate_bias > 0,
    and the activation is y * gate_scale + gate_bias. `threshold` and `k` are ignored."""
    gate_bias: Tensor | None = None
    """[d_sae] float32; present if and only if `gate_scale` is."""
    input_norm: InputNorm = "none"
    """decides the factor of each position, see `tegakari.kernels.input_norm`"""
    centred: bool = False
    """whether the factor is that of the residual without its mean over d_model, which `weight` subtracts already"""


RowSelection = Literal["last", "all", "none"]
"""Positions whose active pairs are returned as `Rows`: the last one of each document, all, or none."""


class EncodeInputs(NamedTuple):
    """Arguments of `tegakari.kernels.encode`, as every path receives them."""

    residual: Tensor
    """[T, d_model]"""
    encoder: Encoder
    offsets: Tensor
    """[D + 1] int64"""
    rows: RowSelection = "last"
    floor: Tensor | None = None
    """[d_sae] float32; None: no survivors."""
    ordered: bool = True
    """False: survivors may be in any order, which saves a sort."""


class Rows(NamedTuple):
    """The active pairs of R positions in CSR: row r owns entries `indptr[r]:indptr[r + 1]`, features ascending."""

    indptr: Tensor
    """[R + 1] int64."""
    feature: Tensor
    """[nnz] int32."""
    activation: Tensor
    """[nnz] float32, > 0."""

    def trimmed(self) -> Rows:
        """Rows in tensors of exactly nnz entries. Synchronizes once on a GPU; the identity elsewhere."""
        return self


class Pooled(NamedTuple):
    """Activations of every feature over each document, zeros included. All [D, d_sae] float32."""

    last: Tensor
    max: Tensor
    mean: Tensor

    @property
    def head(self) -> Tensor:
        """`last`, by its name as a pooling: the rows of a document end with the position that the head reads."""
        return self.last


class Columns(msgspec.Struct, frozen=True, eq=False):
    """Statistics of every feature over all T positions."""

    count: Tensor
    """[d_sae] int64: positions at which it was active."""
    total: Tensor
    """[d_sae] float64: sum of its activations."""
    maximum: Tensor
    """[d_sae] float32: its largest activation, 0 where it was never active."""


class Survivors(NamedTuple):
    """Activations at or above the floor of their feature, sorted by (feature, activation descending, position)."""

    feature: Tensor
    """[n] int32."""
    position: Tensor
    """[n] int32: row of the residual."""
    activation: Tensor
    """[n] float32, > 0."""

    def trimmed(self) -> Survivors:
        """Survivors sorted, in tensors of exactly n. Synchronizes once on a GPU; the identity elsewhere."""
        return self


class CandidateList:
    """Survivors of many batches on a device whose results have their exact size at once: a CPU."""

    def __init__(self) -> None:
        self._parts: list[Survivors] = []

    def append(self, survivors: Survivors) -> None:
        """Add survivors, in any order."""
        self._parts.append(survivors)

    def take_last(self) -> Survivors:
        """Remove what was appended last, and return it."""
        return self._parts.pop()

    def size(self) -> int:
        """Number of survivors."""
        return sum(len(part.feature) for part in self._parts)

    def survivors(self) -> Survivors:
        """All survivors, in no particular order.

        Raises:
            CandidateOverflowError: never; see `CandidateBuffer`.
        """
        return Survivors(*(torch.cat(columns) for columns in zip(*self._parts, strict=True)))

    def replace(self, survivors: Survivors) -> None:
        """Put these in the place of all."""
        self._parts = [survivors]


class CandidateOverflowError(Exception):
    """More survivors than a `CandidateBuffer` has room for: those beyond it are lost."""


class CandidateBuffer:
    """Survivors of many batches on a GPU: kernels append to it, and the host does not know their number."""

    def __init__(self, capacity: int, device: torch.device) -> None:
        index = torch.empty(2, capacity, dtype=torch.int32, device=device)
        self.entries = Survivors(index[0], index[1], torch.empty(capacity, device=device))
        """buffers, filled from the start"""
        self.number = torch.zeros((), dtype=torch.int64, device=device)
        """survivors so far, those that did not fit included"""

    @property
    def capacity(self) -> int:
        """Entries that the buffers have room for."""
        return len(self.entries.feature)

    def append(self, survivors: Survivors) -> None:
        """Add survivors, in any order; the host waits for the device."""
        start = self.size()
        room = max(0, min(len(survivors.feature), self.capacity - start))
        for buffer, values in zip(self.entries, survivors, strict=True):
            buffer[start : start + room] = values[:room]
        self.number += len(survivors.feature)

    def size(self) -> int:
        """Number of survivors; the host waits for the device."""
        return int(self.number)

    def survivors(self) -> Survivors:
        """All survivors, in no particular order; the host waits for the device.

        Raises:
            CandidateOverflowError: some did not fit.
        """
        size = self.size()
        if size > self.capacity:
            raise CandidateOverflowError
        return Survivors(*(buffer[:size] for buffer in self.entries))

    def replace(self, survivors: Survivors) -> None:
        """Put these in the place of all."""
        for buffer, values in zip(self.entries, survivors, strict=True):
            buffer[: len(values)] = values
        self.number.fill_(len(survivors.feature))


class Tally(NamedTuple):
    """Sums of one SAE over the batches of a shard, all on one device. A document takes the row of its arrival."""

    pooled: Pooled
    """[D, d_sae] each, D documents of the shard."""
    positions: Tensor
    """[D] int32: ordinary positions of each document, over which `pooled` is."""
    active: Tensor
    """[d_sae] int32: ordinary positions at which each feature was active."""
    total: Tensor
    """[d_sae] float64: sum of the activations of each feature."""
    candidates: CandidateList | CandidateBuffer
    """activations at or above their floor, or in windows of them; `position` counts the positions of the shard in the
    order of arrival."""
    fault: Tensor
    """[] int32: 1 + the row of a document with a pre-activation that is NaN or infinite; 0: none."""


def empty_tally(documents: int, d_sae: int, device: torch.device, candidates: CandidateList | CandidateBuffer) -> Tally:
    """A tally without documents; rows of `pooled` and `positions` have no values before a document takes them."""
    pooled = torch.empty(3, documents, d_sae, device=device)
    return Tally(
        Pooled(pooled[0], pooled[1], pooled[2]),
        torch.empty(documents, dtype=torch.int32, device=device),
        torch.zeros(d_sae, dtype=torch.int32, device=device),
        torch.zeros(d_sae, dtype=torch.float64, device=device),
        candidates,
        torch.zeros((), dtype=torch.int32, device=device),
    )


class Drawn(NamedTuple):
    """Pairs of a document and a feature whose strongest position is a centre of a window.

    Of a pair the centres are its activations at or above the floor of their feature and, if it is drawn, those that are
    its largest when they are stored: rounded to the nearest, ties to even, with some lower bits dropped.
    """

    pairs: Tensor
    """bool [D, d_sae]"""
    window: int
    """rows on each side of a centre whose activations are wanted"""
    dropped_bits: int
    """of a float32 when it is stored"""


class TallyBatch:
    """The documents of one batch, and their place in a tally; the same for all layers."""

    def __init__(
        self, ends: Sequence[int], offsets: Tensor, document: int, position: int, *, apart: bool = False
    ) -> None:
        """Place a batch.

        Args:
            ends: [D + 1], from 0: document i owns the rows ends[i]:ends[i + 1] of the residual.
            offsets: `ends` on the residual's device, int64.
            document: row of the tally for the first document.
            position: positions of all batches before.
            apart: whether the last row of a document can be a token before other rows: it is near to all in windows.
        """
        self.ends = ends
        self.offsets = offsets
        self.document = document
        self.position = position
        self.apart = apart
        self.chunks: Any = None
        """what a path plans once for all layers"""

    @cached_property
    def owner(self) -> Tensor:
        """int64 [T] on the residual's device: document of the batch that each row belongs to."""
        rows = torch.arange(self.ends[-1], device=self.offsets.device)
        return torch.searchsorted(self.offsets, rows, right=True) - 1


class DeferredChecks(Protocol):
    """Checks of the inputs that a GPU has run and whose outcome the host has not read."""

    def settle(self) -> object:
        """Wait for the GPU and read the outcome.

        Raises:
            KernelError: the inputs held NaN or infinity, or offsets or thresholds were wrong.
        """
        ...


class Encoded(NamedTuple):
    """Result of `encode`. All tensors are on the residual's device."""

    rows: Rows | None
    pooled: Pooled
    columns: Columns
    survivors: Survivors | None
    deferred: DeferredChecks | None = None
    """On a GPU: the checks that would have made `encode` wait."""

    def check(self) -> None:
        """Run the deferred checks. `trimmed()` of rows and survivors includes them; call this where neither is used.

        Raises:
            KernelError: the inputs held NaN or infinity, or offsets or thresholds were wrong.
        """
        if self.deferred is not None:
            self.deferred.settle()


Path = Callable[[EncodeInputs], Encoded]
"""One implementation of encode; its inputs have passed `check_inputs`."""
