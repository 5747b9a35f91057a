"""The faster of the two Triton paths, chosen by timing both once per shape and dtype."""

from __future__ import annotations

import statistics

import torch

from tegakari.kernels.gpu.encode import gpu_encode
from tegakari.kernels.types import Encoded, EncodeInputs, Encoder

ROWS, DOCUMENT = 2048, 128
"""Positions of the timed batch, and of each of its documents."""
REPEATS = 7


class FastestTritonPath:
    """`gpu_encode` with or without the fused kernel.

    The timed batch is random, so the choice does not depend on which batch of a run comes first.
    """

    def __init__(self) -> None:
        self._fused: dict[tuple[object, ...], bool] = {}

    def __call__(self, inputs: EncodeInputs) -> Encoded:
        encoder = inputs.encoder
        weight = encoder.weight
        key = weight.device, weight.dtype, weight.shape, weight.stride(), encoder.k is None, encoder.gate_scale is None
        if key not in self._fused:
            self._fused[key] = _fused_is_faster(encoder)
        return gpu_encode(inputs, fused=self._fused[key])

    def names(self) -> str:
        """Names of the paths chosen so far, joined by + if shapes differ; empty before the first choice."""
        return "+".join(sorted({"triton-fused" if fused else "triton-gemm" for fused in self._fused.values()}))


def _fused_is_faster(encoder: Encoder) -> bool:
    device = encoder.weight.device
    if encoder.k is not None or device.type != "cuda":
        return False
    d_model, d_sae = encoder.weight.shape
    source = torch.Generator(device).manual_seed(0)  # the caller's random state is not changed
    residual = torch.randn(ROWS, d_model, device=device, generator=source).to(encoder.weight.dtype)
    floor = torch.full((d_sae,), torch.inf, device=device)
    offsets = torch.arange(0, ROWS + 1, DOCUMENT, device=device)
    inputs = EncodeInputs(residual, encoder, offsets, floor=floor)
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(REPEATS + 1):
        for fused, milliseconds in times.items():
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            gpu_encode(inputs, fused=fused)
            stop.record()
            stop.synchronize()
            milliseconds.append(start.elapsed_time(stop))
    return statistics.median(times[True][1:]) < statistics.median(times[False][1:])  # the first one compiles
