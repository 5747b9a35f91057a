"""Sparse encode in plain torch: the definition that every other path is tested against."""

from __future__ import annotations

import torch
from torch import Tensor

from tegakari.kernels.input_norm import input_factors
from tegakari.kernels.types import Columns, Encoded, EncodeInputs, Encoder, Pooled, Rows, Survivors
from tegakari.kernels.validation import refuse_non_finite


def activations(residual: Tensor, encoder: Encoder) -> Tensor:
    """Dense activations [T, d_sae] float32 of residuals [T, d_model].

    Products of the operands rounded to the encoder's dtype, summed in float32.

    Raises:
        KernelError: a pre-activation is NaN or infinite.
    """
    dtype = encoder.weight.dtype
    product = residual.to(dtype).float() @ encoder.weight.float()
    factors = input_factors(residual, encoder)
    if factors is not None:
        product = product * factors[:, None]
    if encoder.gate_scale is not None and encoder.gate_bias is not None:
        value = product * encoder.gate_scale + encoder.gate_bias
        active = (product + encoder.bias > 0) & (value > 0)
    else:
        value = product + encoder.bias
        active = value > encoder.threshold
    if not value.isfinite().all():
        refuse_non_finite(residual, encoder)
    activation = torch.where(active, value, 0.0)
    return activation if encoder.k is None else largest(activation, encoder.k)


def largest(activation: Tensor, k: int) -> Tensor:
    """Keep the k largest of each row, zeros elsewhere. A stable sort breaks ties towards the lower feature."""
    order = torch.sort(activation, dim=1, descending=True, stable=True).indices[:, :k]
    return torch.zeros_like(activation).scatter(1, order, activation.gather(1, order))


def compressed(activation: Tensor) -> Rows:
    """Non-zero entries of [R, d_sae] as CSR."""
    row, feature = activation.nonzero(as_tuple=True)
    counts = torch.bincount(row, minlength=activation.shape[0])
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Rows(indptr, feature.int(), activation[row, feature])


def survivors_of(activation: Tensor, floor: Tensor) -> Survivors:
    """Entries of [T, d_sae] that are > 0 and >= `floor` [d_sae], in the order of `Survivors`."""
    position, feature = ((activation >= floor) & (activation > 0)).nonzero(as_tuple=True)
    return sorted_survivors(feature.int(), position.int(), activation[position, feature])


def sorted_survivors(feature: Tensor, position: Tensor, activation: Tensor) -> Survivors:
    """Sort survivors by (feature, activation descending, position)."""
    order = torch.sort(position).indices
    order = order[torch.sort(activation[order], descending=True, stable=True).indices]
    order = order[torch.sort(feature[order], stable=True).indices]
    return Survivors(feature[order], position[order], activation[order])


def reference_encode(inputs: EncodeInputs) -> Encoded:
    """Encode by the definition, with all of [T, d_sae] in memory. See `tegakari.kernels.encode`."""
    activation = activations(inputs.residual, inputs.encoder)
    documents = activation.split(inputs.offsets.diff().tolist())
    last = torch.stack([document[-1] for document in documents])
    maximum = torch.stack([document.amax(0) for document in documents])
    mean = torch.stack([document.mean(0) for document in documents])
    selected = {"last": last, "all": activation, "none": None}[inputs.rows]
    return Encoded(
        rows=None if selected is None else compressed(selected),
        pooled=Pooled(last, maximum, mean),
        columns=Columns((activation > 0).sum(0), activation.sum(0, dtype=torch.float64), maximum.amax(0)),
        survivors=None if inputs.floor is None else survivors_of(activation, inputs.floor),
    )
