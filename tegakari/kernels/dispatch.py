"""Sparse encode, and the choice of its path: once per kind of device, logged once, set by TEGAKARI_KERNELS."""

from __future__ import annotations

import logging
import os
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from tegakari.kernels import torch_only
from tegakari.kernels.types import Encoded, EncodeInputs, Encoder, Path, RowSelection
from tegakari.kernels.validation import check_inputs, check_values
from tegakari.schemas.errors import KernelError

VARIABLE = "TEGAKARI_KERNELS"
SETTINGS = ("auto", "torch", "numba", "triton")

log = logging.getLogger(__name__)


@torch.inference_mode(False)  # scratch that outlives a call must not be an inference tensor
@torch.no_grad()
def encode(
    residual: Tensor,
    encoder: Encoder,
    offsets: Tensor,
    *,
    rows: RowSelection = "last",
    floor: Tensor | None = None,
    ordered: bool = True,
) -> Encoded:
    """Sparse activations of one SAE for the residuals of one layer and batch.

    Args:
        residual: [T, d_model] float32, bfloat16 or float16, T >= 1: the countable positions of whole documents,
            documents one after another. Rounded to the encoder's dtype, as residuals of a model of that dtype are. A
            float32 residual with a large mean needs a float32 encoder: rounding would lose its spread.
        encoder: the SAE, on the residual's device.
        offsets: [D + 1] int64, on the residual's device or the CPU. Document i is `residual[offsets[i]:offsets[i + 1]]`
            and has at least one position; `offsets[-1] == T`.
        rows: the positions whose active pairs are returned: the last one of each document, all, or none.
        floor: [d_sae] float32. Activations that are > 0 and >= `floor[feature]` become survivors; None: no survivors.
        ordered: False: survivors may be in any order, which saves a sort.

    Returns:
        Rows, pooled activations, column statistics and survivors. Call `trimmed()` on rows and survivors after the
        forward pass: on a GPU they are capacity buffers until then, and the encoded tensors must stay unchanged.

    Raises:
        KernelError: a wrong shape, dtype or device, an empty document, k > d_sae, NaN or infinity. Errors in values on
            a GPU are raised by `trimmed()` and `check()` instead, so that no layer waits for them.
    """
    inputs = EncodeInputs(residual, encoder, offsets, rows, floor, ordered)
    check_inputs(inputs)
    name, path = _path_for(residual.device.type)
    if residual.device.type == "cpu" or name == "torch":
        check_values(inputs)
    return path(inputs)


def backend(device: torch.device | str | None = None) -> str:
    """Name of the path that `encode` takes on a device, for a run to record. No device: the GPU if there is one.

    To repeat a run to the last bit on another machine, set TEGAKARI_KERNELS to this name.

    Raises:
        KernelError: TEGAKARI_KERNELS names an unknown path, or one that this machine does not have.
    """
    kind = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")).type
    return _path_for(kind)[0]


def tallies_on_gpu(device: torch.device) -> bool:
    """Whether tallies of a device are kept by the Triton kernels."""
    return _path_for(device.type)[0] == "triton"


@cache
def _path_for(kind: str) -> tuple[str, Path]:
    """Name and path for a kind of device. Imports no other path."""
    setting = os.environ.get(VARIABLE, "auto")
    if setting not in SETTINGS:
        raise KernelError(f"{VARIABLE} is {setting!r}", field=VARIABLE, fix=f"choose one of {', '.join(SETTINGS)}")
    name = _default(kind) if setting == "auto" else setting
    path = _load_path(name, kind)
    log.info("sparse encode on %s: %s", kind, name)
    return name, path


def _default(kind: str) -> str:
    if kind == "cuda" and find_spec("triton"):
        return "triton"
    if kind == "cpu" and find_spec("numba"):
        return "numba"
    return "torch"


def _load_path(name: str, kind: str) -> Path:
    # Imported here: numba and Triton are optional, and a machine needs only one of them.
    if name == "torch":
        return torch_only.torch_encode
    if name == "numba":
        if kind != "cpu" or not find_spec("numba"):
            raise KernelError(f"{VARIABLE} is 'numba'", field=VARIABLE, fix="install numba, and use it on a CPU")
        from tegakari.kernels.cpu.encode import cpu_encode

        return cpu_encode
    if not find_spec("triton"):
        raise KernelError(f"{VARIABLE} is {name!r}", field=VARIABLE, fix="install triton, or choose 'torch'")
    from tegakari.kernels.gpu.encode import gpu_encode
    from tegakari.kernels.gpu.gate import INTERPRETED

    if kind != "cuda" and not INTERPRETED:
        raise KernelError(
            f"{VARIABLE} is {name!r} on {kind}", field=VARIABLE, fix="set TRITON_INTERPRET=1 to interpret the kernels"
        )
    return gpu_encode
