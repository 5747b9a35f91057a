"""The faster of the two Triton paths, found by timing them once for a shape and dtype."""

from __future__ import annotations

import statistics
from typing import Literal

import torch
from torch import Tensor

from tegakari.kernels.gpu import encode as gpu
from tegakari.kernels.types import Encoded, Encoder

ROWS, DOCUMENT = 2048, 128
"""Positions of the batch that is timed, and of each of its documents."""
REPEATS = 7


class Fastest:
    """`gpu.encode`, fused or not.

    The batch that is timed is made up, so the choice does not depend on which batch of a run comes first.
    """

    def __init__(self) -> None:
        self._fused: dict[tuple[object, ...], bool] = {}

    def __call__(
        self,
        residual: Tensor,
        encoder: Encoder,
        offsets: Tensor,
        *,
        rows: Literal["last", "all", "none"],
        floor: Tensor | None,
    ) -> Encoded:
        weight = encoder.weight
        key = weight.device, weight.dtype, weight.shape, weight.stride(), encoder.k is None, encoder.gate_scale is None
        if key not in self._fused:
            self._fused[key] = _fused_is_faster(encoder)
        return gpu.encode(residual, encoder, offsets, rows=rows, floor=floor, fused=self._fused[key])

    def names(self) -> str:
        """What has been chosen so far, joined by + if it differs between shapes; empty before the first choice."""
        return "+".join(sorted({"triton-fused" if fused else "triton-gemm" for fused in self._fused.values()}))


def _fused_is_faster(encoder: Encoder) -> bool:
    device = encoder.weight.device
    if encoder.k is not None or device.type != "cuda":
        return False
    d_model, d_sae = encoder.weight.shape
    source = torch.Generator(device).manual_seed(0)  # the caller's random numbers stay as they are
    residual = torch.randn(ROWS, d_model, device=device, generator=source).to(encoder.weight.dtype)
    floor = torch.full((d_sae,), torch.inf, device=device)
    offsets = torch.arange(0, ROWS + 1, DOCUMENT, device=device)
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(REPEATS + 1):
        for fused, taken in times.items():
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            gpu.encode(residual, encoder, offsets, floor=floor, fused=fused)
            stop.record()
            stop.synchronize()
            taken.append(start.elapsed_time(stop))
    return statistics.median(times[True][1:]) < statistics.median(times[False][1:])  # the first one compiles
