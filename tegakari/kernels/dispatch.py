"""Which path runs sparse encode: chosen once for a device, logged once."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tegakari.kernels import reference
from tegakari.kernels.checks import check_inputs
from tegakari.kernels.types import Encoded, Encoder


def encode(
    residual: Tensor,
    encoder: Encoder,
    offsets: Tensor,
    *,
    rows: Literal["last", "all", "none"] = "last",
    floor: Tensor | None = None,
) -> Encoded:
    """Sparse activations of one SAE for the residuals of one layer and batch.

    Args:
        residual: [T, d_model] float32, bfloat16 or float16, T >= 1: the non-special positions of whole documents,
            documents one after another. Rounded to the encoder's dtype.
        encoder: the SAE, on the residual's device.
        offsets: [D + 1] int64, on the residual's device or the CPU. Document i is `residual[offsets[i]:offsets[i + 1]]`
            and has at least one position; `offsets[-1] == T`.
        rows: the positions whose active pairs are wanted: each document's last one, all, or none.
        floor: [d_sae] float32. Activations that are > 0 and >= `floor[feature]` become survivors; None: no survivors.

    Returns:
        Rows, pooled activations, column statistics and survivors. Call `trimmed()` on rows and survivors when the whole
        forward pass is done: on a GPU they are capacity buffers until then.

    Raises:
        KernelError: a wrong shape, dtype or device, an empty document, k > d_sae, NaN or infinity.
    """
    check_inputs(residual, encoder, offsets, rows, floor)
    return reference.encode(residual, encoder, offsets, rows=rows, floor=floor)


def backend(device: torch.device | str | None = None) -> str:
    """Name of the path that `encode` takes on a device, for a run to record. No device: the GPU if there is one."""
    return "torch"
