"""Passes with so few positions that no step of the models takes long on this machine."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from tegakari.analyses.engine.batches import BATCH_TOKENS
from tegakari.analyses.engine.run_models import RunModels
from tegakari.models.rerun.ablate_features import GPU_POSITIONS_PER_PASS
from tegakari.models.tokens import Batch

STEP_SECONDS = 0.1
"""Aim for a block or an SAE in one pass. Other requests wait for it, and cancellation acts after it."""

MIN_POSITIONS = 64

_PROBE_TOKENS = 256
_PROBE_PASSES = 4


def with_short_steps(models: RunModels) -> RunModels:
    """The models with the largest power of two of positions per pass whose steps take `STEP_SECONDS`, by measurement.

    Each step is measured several times, and its shortest time counts: the first pass compiles kernels, and another
    process may interrupt any. A pass has `MIN_POSITIONS` at least, and always a whole document.
    """
    length = min(_PROBE_TOKENS, models.classifier.max_length)
    tokens = _PROBE_TOKENS if models.classifier.device.type == "cpu" else BATCH_TOKENS  # less leaves a GPU idle
    documents = max(1, tokens // length)
    passes = [_seconds_of_steps(models, documents, length) for _ in range(_PROBE_PASSES)]
    fitting = STEP_SECONDS * documents * length / max(map(min, zip(*passes, strict=True)))
    positions = MIN_POSITIONS
    while positions < GPU_POSITIONS_PER_PASS and 2 * positions <= fitting:
        positions *= 2
    return replace(models, max_positions=positions)


def _seconds_of_steps(models: RunModels, documents: int, length: int) -> list[float]:
    """Seconds of each block and each SAE on documents of ordinary tokens."""
    classifier = models.classifier
    ids = torch.tensor([classifier.ordinary_tokens(length)]).repeat(documents, 1)
    positions = torch.arange(documents * length)
    batch = Batch(ids, torch.ones_like(ids), positions, torch.arange(0, documents * length + 1, length))
    batch = batch.to(classifier.device)
    seconds: list[float] = []
    started = 0.0

    def on_step() -> None:
        nonlocal started
        if classifier.device.type == "cuda":
            # Not the whole device, which cannot be waited for while another thread captures a CUDA graph.
            torch.cuda.current_stream(classifier.device).synchronize()
        now = time.perf_counter()
        seconds.append(now - started)
        started = now

    def on_residual(layer: int, residual: Tensor) -> None:
        on_step()
        models.encode(layer, residual, batch.offsets, rows="none")
        on_step()

    started = time.perf_counter()
    classifier.run(batch, on_residual, list(models.saes), on_step)
    return seconds
