"""Checks of the inputs of sparse encode."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor

from tegakari.kernels.types import EncodeInputs, Encoder
from tegakari.schemas.errors import KernelError

COMPUTE_DTYPES = (torch.float32, torch.bfloat16)
RESIDUAL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
INT32_MAX = 2**31 - 1


def check_encoder(encoder: Encoder) -> None:
    """Refuse an encoder of wrong shapes, dtypes or devices.

    Raises:
        KernelError: names the field, its value and the fix.
    """
    weight = encoder.weight
    if weight.ndim != 2 or 0 in weight.shape:
        raise KernelError(
            f"the encoder weight is {tuple(weight.shape)}",
            field="encoder.weight",
            fix="give W_enc as [d_model, d_sae], both at least 1",
        )
    if weight.dtype not in COMPUTE_DTYPES:
        raise KernelError(
            f"the encoder weight is {weight.dtype}",
            field="encoder.weight",
            fix="convert it to torch.float32 or torch.bfloat16",
        )
    d_sae = weight.shape[1]
    if d_sae > INT32_MAX:
        raise KernelError(
            f"the encoder has {d_sae} features", field="encoder.weight", fix=f"at most {INT32_MAX} are counted"
        )
    for name in ("bias", "threshold", "gate_scale", "gate_bias"):
        vector = getattr(encoder, name)
        if vector is not None:
            _check_vector(vector, f"encoder.{name}", d_sae, weight.device)
    if (encoder.gate_scale is None) != (encoder.gate_bias is None):
        missing = "gate_scale" if encoder.gate_scale is None else "gate_bias"
        raise KernelError(
            f"{missing} is missing", field=f"encoder.{missing}", fix="a gated SAE needs gate_scale and gate_bias"
        )
    if encoder.k is not None:
        if not 1 <= encoder.k <= d_sae:
            raise KernelError(f"k is {encoder.k}", field="encoder.k", fix=f"choose 1 to d_sae ({d_sae})")
        if encoder.gate_scale is not None:
            raise KernelError(f"k is {encoder.k} on a gated SAE", field="encoder.k", fix="give either k or a gate")


def check_inputs(inputs: EncodeInputs) -> None:
    """Refuse inputs of wrong shapes, dtypes or devices, without reading a tensor on a GPU.

    Raises:
        KernelError: names the field, its value and the fix.
    """
    residual, encoder, offsets, rows, floor, _ = inputs
    check_encoder(encoder)
    d_model, d_sae = encoder.weight.shape
    if residual.ndim != 2 or residual.shape[0] == 0 or residual.shape[1] != d_model:
        raise KernelError(
            f"the residual is {tuple(residual.shape)}",
            field="residual",
            fix=f"give [T, {d_model}] with at least one position, T >= 1",
        )
    if residual.dtype not in RESIDUAL_DTYPES:
        raise KernelError(
            f"the residual is {residual.dtype}", field="residual", fix="convert it to float32, bfloat16 or float16"
        )
    if residual.shape[0] > INT32_MAX:
        raise KernelError(f"{residual.shape[0]} positions at once", field="residual", fix="encode in smaller batches")
    if residual.device != encoder.weight.device:
        raise KernelError(
            f"the residual is on {residual.device} and the encoder on {encoder.weight.device}",
            field="residual",
            fix="move both to one device",
        )
    if rows not in ("last", "all", "none"):
        raise KernelError(f"rows is {rows!r}", field="rows", fix="choose 'last', 'all' or 'none'")
    if floor is not None:
        _check_vector(floor, "floor", d_sae, residual.device)
    if offsets.ndim != 1 or offsets.dtype != torch.int64 or len(offsets) < 2:
        raise KernelError(
            f"offsets is {tuple(offsets.shape)} {offsets.dtype}",
            field="offsets",
            fix="give [D + 1] torch.int64 with at least one document",
        )
    if offsets.device not in (residual.device, torch.device("cpu")):
        raise KernelError(f"offsets is on {offsets.device}", field="offsets", fix=f"move it to {residual.device}")


def check_values(inputs: EncodeInputs) -> None:
    """Refuse wrong values in the small tensors: offsets, vectors of the encoder, floor. Synchronizes on a GPU.

    Raises:
        KernelError: names the field, its value and the fix.
    """
    encoder, floor = inputs.encoder, inputs.floor
    check_offsets(inputs.offsets.cpu(), len(inputs.residual))
    for name in ("bias", "gate_scale", "gate_bias"):
        vector = getattr(encoder, name)
        if vector is not None:
            _check_finite(vector, f"encoder.{name}")
    low = float(encoder.threshold.min())
    if not low >= 0:
        raise KernelError(
            f"the smallest threshold is {low}", field="encoder.threshold", fix="thresholds have to be 0 or more"
        )
    if floor is not None and bool(floor.isnan().any()):
        raise KernelError("the floor holds NaN", field="floor", fix="use 0 for a feature whose activations all survive")


def _check_vector(vector: Tensor, field: str, d_sae: int, device: torch.device) -> None:
    if tuple(vector.shape) != (d_sae,) or vector.dtype != torch.float32:
        raise KernelError(
            f"{field} is {tuple(vector.shape)} {vector.dtype}", field=field, fix=f"give [{d_sae}] torch.float32"
        )
    if vector.device != device:
        raise KernelError(f"{field} is on {vector.device}", field=field, fix=f"move it to {device}")


def check_offsets(offsets: Tensor, positions: int) -> None:
    """Refuse offsets that do not cut all positions into documents of at least one.

    Raises:
        KernelError: names the offsets and the fix.
    """
    first, end = int(offsets[0]), int(offsets[-1])
    if first != 0 or end != positions:
        raise KernelError(
            f"offsets run from {first} to {end}", field="offsets", fix=f"they have to run from 0 to T ({positions})"
        )
    lengths = offsets.diff()
    if int(lengths.min()) < 1:
        document = int((lengths < 1).nonzero()[0])
        raise KernelError(
            f"document {document} has {int(lengths[document])} positions",
            field="offsets",
            fix="omit documents without a position",
        )


def _check_finite(values: Tensor, field: str) -> None:
    finite = values.isfinite()
    if not bool(finite.all()):
        index = (~finite).nonzero()[0].tolist()
        raise KernelError(
            f"{field} holds {float(values[tuple(index)])} at {index}",
            field=field,
            fix="find what produced it; encode takes finite numbers only",
        )


def refuse_non_finite(residual: Tensor, encoder: Encoder) -> NoReturn:
    """Raise the error of the operand that made a pre-activation NaN or infinite.

    Raises:
        KernelError: always.
    """
    _check_finite(residual, "residual")
    _check_finite(encoder.weight, "encoder.weight")
    raise KernelError(
        f"a pre-activation overflows {encoder.weight.dtype}",
        field="residual",
        fix="fold a smaller input scale into the encoder",
    )
