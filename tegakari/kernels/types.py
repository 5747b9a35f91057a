"""Inputs and results of sparse encode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import msgspec
from torch import Tensor


class Encoder(NamedTuple):
    """Weights of one SAE for encode, with the input scale and `b_dec` already folded into `weight` and `bias`.

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
    and the activation is y * gate_scale + gate_bias. `threshold` and `k` are ignored."""
    gate_bias: Tensor | None = None
    """[d_sae] float32; present if and only if `gate_scale` is."""


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
