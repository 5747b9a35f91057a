"""Batches so small that no step of the models takes long on this machine."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from tegakari.analyses.engine.batches import BATCH_TOKENS
from tegakari.analyses.engine.run_models import RunModels
from tegakari.models.architecture import text_config
from tegakari.models.tokens import Batch

STEP_SECONDS = 0.1
"""Aim for a block or an SAE on one batch. Other requests wait for it, and cancellation acts after it."""

MIN_BATCH_TOKENS = 64

_PROBE_TOKENS = 256
_PROBE_PASSES = 4


def with_short_steps(models: RunModels) -> RunModels:
    """The models with the largest power of two of batch tokens whose steps take `STEP_SECONDS`, by measurement.

    Each step is measured several times, and its shortest time counts: the first pass compiles kernels, and another
    process may interrupt any. A batch has `BATCH_TOKENS` at most and `MIN_BATCH_TOKENS` at least, and always a whole
    document.
    """
    tokens = min(_PROBE_TOKENS, models.classifier.max_length)
    passes = [_seconds_of_steps(models, tokens) for _ in range(_PROBE_PASSES)]
    fitting = STEP_SECONDS * tokens / max(map(min, zip(*passes, strict=True)))
    batch_tokens = MIN_BATCH_TOKENS
    while batch_tokens < BATCH_TOKENS and 2 * batch_tokens <= fitting:
        batch_tokens *= 2
    return replace(models, batch_tokens=batch_tokens)


def _seconds_of_steps(models: RunModels, tokens: int) -> list[float]:
    """Seconds of each block and each SAE on one document of ordinary tokens."""
    classifier = models.classifier
    special = classifier.special_tokens
    vocabulary = text_config(classifier.model).vocab_size
    ordinary = [token for token in range(min(vocabulary, tokens + len(special))) if token not in special]
    ids = torch.tensor([(ordinary * tokens)[:tokens]])
    positions = torch.arange(tokens)
    batch = Batch(ids, torch.ones_like(ids), positions, torch.tensor([0, tokens])).to(classifier.device)
    seconds: list[float] = []
    started = 0.0

    def on_step() -> None:
        nonlocal started
        if classifier.device.type == "cuda":
            torch.cuda.synchronize(classifier.device)
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
