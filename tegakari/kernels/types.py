"""What goes into sparse encode and what comes out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from torch import Tensor

if TYPE_CHECKING:
    from tegakari.kernels.gpu.deferred import Flags


class Encoder(NamedTuple):
    """What encode needs of one SAE. The caller has folded the input scale and `b_dec` into `weight` and `bias`.

    The pre-activation of feature f at a position with residual h is `weight[:, f] . h + bias[f]`.
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
    and the activation is y * gate_scale + gate_bias. `threshold` and `k` play no part."""
    gate_bias: Tensor | None = None
    """[d_sae] float32, given together with `gate_scale`."""


class Rows(NamedTuple):
    """The active pairs of R positions in CSR: row r owns entries `indptr[r]:indptr[r + 1]`, features ascending."""

    indptr: Tensor
    """[R + 1] int64."""
    feature: Tensor
    """[nnz] int32."""
    activation: Tensor
    """[nnz] float32, > 0."""

    def trimmed(self) -> Rows:
        """Return the rows in tensors of exactly nnz entries. Synchronises once on a GPU, the identity elsewhere."""
        return self


class Pooled(NamedTuple):
    """Activations of every feature over a document, zeros included. Each [D, d_sae] float32."""

    last: Tensor
    max: Tensor
    mean: Tensor


class Columns(msgspec.Struct, frozen=True, eq=False):
    """What one feature did over all T positions."""

    count: Tensor
    """[d_sae] int64: positions at which it was active."""
    total: Tensor
    """[d_sae] float64: sum of its activations."""
    maximum: Tensor
    """[d_sae] float32: its largest activation, 0 where it was never active."""


class Survivors(NamedTuple):
    """Activations at or above their feature's floor, by (feature, activation descending, position)."""

    feature: Tensor
    """[n] int32."""
    position: Tensor
    """[n] int32: row of the residual."""
    activation: Tensor
    """[n] float32, > 0."""

    def trimmed(self) -> Survivors:
        """Return the survivors sorted, in tensors of exactly n. Synchronises once on a GPU, the identity elsewhere."""
        return self


class Encoded(NamedTuple):
    """What `encode` returns. All tensors lie on the residual's device."""

    rows: Rows | None
    pooled: Pooled
    columns: Columns
    survivors: Survivors | None
    flags: Flags | None = None
    """What a GPU has noticed about the inputs and not yet told."""

    def check(self) -> None:
        """Refuse now what a GPU cannot refuse without waiting. `trimmed()` does so too; needed only without either.

        Raises:
            KernelError: the inputs held NaN or infinity, or offsets or thresholds were wrong.
        """
        if self.flags is not None:
            self.flags.settle()
