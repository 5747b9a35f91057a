"""Which path runs sparse encode: chosen once for a kind of device, logged once, asked for by TEGAKARI_KERNELS."""

from __future__ import annotations

import logging
import os
from functools import cache, partial
from importlib.util import find_spec
from typing import Literal, Protocol

import torch
from torch import Tensor

from tegakari.kernels import torch_only
from tegakari.kernels.types import Encoded, Encoder
from tegakari.kernels.validation import check_inputs, check_values
from tegakari.schemas.errors import KernelError

VARIABLE = "TEGAKARI_KERNELS"
SETTINGS = ("auto", "torch", "numba", "triton", "triton-gemm", "triton-fused")

log = logging.getLogger(__name__)


class Path(Protocol):
    """What every path of encode looks like."""

    def __call__(
        self,
        residual: Tensor,
        encoder: Encoder,
        offsets: Tensor,
        *,
        rows: Literal["last", "all", "none"],
        floor: Tensor | None,
    ) -> Encoded: ...


@torch.inference_mode(False)  # scratch that outlives a call must not be an inference tensor
@torch.no_grad()
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
            documents one after another. Rounded to the encoder's dtype, as residuals of a model of that dtype are;
            rounding is what a float32 residual with a large mean does not survive: give it a float32 encoder.
        encoder: the SAE, on the residual's device.
        offsets: [D + 1] int64, on the residual's device or the CPU. Document i is `residual[offsets[i]:offsets[i + 1]]`
            and has at least one position; `offsets[-1] == T`.
        rows: the positions whose active pairs are wanted: each document's last one, all, or none.
        floor: [d_sae] float32. Activations that are > 0 and >= `floor[feature]` become survivors; None: no survivors.

    Returns:
        Rows, pooled activations, column statistics and survivors. Call `trimmed()` on rows and survivors when the whole
        forward pass is done: on a GPU they are capacity buffers until then, and what was encoded must stay unchanged.

    Raises:
        KernelError: a wrong shape, dtype or device, an empty document, k > d_sae, NaN or infinity. What only the values
            on a GPU tell is raised by `trimmed()` and `check()` instead, so that no layer waits for it.
    """
    check_inputs(residual, encoder, offsets, rows, floor)
    name, path = _chosen(residual.device.type)
    if residual.device.type == "cpu" or name == "torch":
        check_values(encoder, offsets, len(residual), floor)
    return path(residual, encoder, offsets, rows=rows, floor=floor)


def backend(device: torch.device | str | None = None) -> str:
    """Name of the path that `encode` takes on a device, for a run to record. No device: the GPU if there is one.

    One of torch, numba, triton-gemm, triton-fused; on a GPU left to choose, triton until the first encode has chosen.
    To repeat a run to the last bit on another machine, set TEGAKARI_KERNELS to this name.

    Raises:
        KernelError: TEGAKARI_KERNELS asks for something that is unknown or that this machine does not have.
    """
    kind = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")).type
    name, path = _chosen(kind)
    if name != "triton":
        return name
    from tegakari.kernels.gpu.autotune import Fastest

    assert isinstance(path, Fastest)
    return path.names() or name


@cache
def _chosen(kind: str) -> tuple[str, Path]:
    """Name and path for a kind of device. Imports only what it chooses."""
    setting = os.environ.get(VARIABLE, "auto")
    if setting not in SETTINGS:
        raise KernelError(f"{VARIABLE} is {setting!r}", field=VARIABLE, fix=f"choose one of {', '.join(SETTINGS)}")
    name = _best(kind) if setting == "auto" else setting
    path = _path(name, kind)
    log.info("sparse encode on %s: %s", kind, name)
    return name, path


def _best(kind: str) -> str:
    if kind == "cuda" and find_spec("triton"):
        return "triton"
    if kind == "cpu" and find_spec("numba"):
        return "numba"
    return "torch"


def _path(name: str, kind: str) -> Path:
    # Imported here: numba and Triton are optional, and a machine needs only one of them.
    if name == "torch":
        return torch_only.encode
    if name == "numba":
        if kind != "cpu" or not find_spec("numba"):
            raise KernelError(
                f"{VARIABLE} is 'numba'", field=VARIABLE, fix="numba encodes on a CPU and has to be installed"
            )
        from tegakari.kernels.cpu import encode as host

        return host.encode
    if not find_spec("triton"):
        raise KernelError(f"{VARIABLE} is {name!r}", field=VARIABLE, fix="install triton, or choose 'torch'")
    from tegakari.kernels.gpu import autotune
    from tegakari.kernels.gpu import encode as gpu

    if kind != "cuda" and not gpu.INTERPRETED:
        raise KernelError(
            f"{VARIABLE} is {name!r} on {kind}", field=VARIABLE, fix="set TRITON_INTERPRET=1 to interpret the kernels"
        )
    return autotune.Fastest() if name == "triton" else partial(gpu.encode, fused=name == "triton-fused")
