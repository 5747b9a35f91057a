"""Training of a group of layers from one series of forward passes, resumed from its newest checkpoint."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import structlog
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tegakari.indexer.training.checkpoint import (
    Checkpoint,
    checkpoint_directory,
    complete_checkpoint,
    newest_checkpoint,
)
from tegakari.indexer.training.saes.fills import Fill, ResidualBuffer, batches_of, plan_fills
from tegakari.indexer.training.saes.schedule import Schedule
from tegakari.indexer.training.saes.trainable import TrainableSae
from tegakari.models.classifier import Classifier
from tegakari.models.sae_start import start_seed
from tegakari.models.tokens import Tokenized
from tegakari.schemas.config import Config, SaesConfig
from tegakari.schemas.errors import SaeError
from tegakari.schemas.progress import Progress

log = structlog.get_logger()

_TENSORS_FILE = "tensors.safetensors"


class TrainedGroup(NamedTuple):
    """The SAEs of a group after the last step."""

    saes: dict[int, TrainableSae]
    """by layer."""
    steps: int
    seconds: float
    """training time over all attempts."""


def train_group(
    config: Config,
    classifier: Classifier,
    classifier_sha256: str,
    documents: Sequence[Tokenized],
    layers: Sequence[int],
    checkpoints: Path,
    progress: Progress,
) -> TrainedGroup:
    """Train the SAEs of layers, from the newest checkpoint if there is one.

    Args:
        config: its saes section holds the settings; index.batch_tokens, the tokens per forward pass.
        classifier: the model whose residuals the SAEs reconstruct.
        classifier_sha256: its fingerprint, which decides the initial directions.
        documents: the training documents, each with a countable position.
        layers: layers to train.
        checkpoints: directory of the group's checkpoints.
        progress: receives one stage with the steps.

    Raises:
        SaeError: training diverged.
    """
    settings = config.saes
    fills = plan_fills(
        [len(document.positions) for document in documents],
        epochs=settings.epochs,
        buffer_positions=settings.buffer_positions,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    last_steps = list(accumulate(fill.steps for fill in fills))
    total = last_steps[-1]
    saes = {layer: _new_sae(layer, settings, classifier, classifier_sha256, total) for layer in layers}
    step, seconds = 0, 0.0
    if checkpoint := newest_checkpoint(checkpoints):
        step, seconds = checkpoint.step, checkpoint.seconds
        _load_tensors(checkpoint.path, saes)
        log.info("resuming", layers=list(layers), step=step, of=total)
    progress.stage(f"training SAEs of layers {layers[0]} to {layers[-1]}", total, done=step)
    buffer = ResidualBuffer(classifier, documents, layers, config.index.batch_tokens)
    schedule = Schedule(settings, total)
    start, saved_step = time.perf_counter() - seconds, step
    with _tensor_cores(classifier.device):
        for fill in fills[bisect_right(last_steps, step) :]:
            _train_fill(fill, buffer, saes, schedule, settings.seed, step, progress)
            step += fill.steps
            if step - saved_step >= settings.checkpoint_steps or step == total:
                _check_finite(saes, step, checkpoints.parent)
                seconds = round(time.perf_counter() - start, 2)
                _write_checkpoint(Checkpoint(checkpoint_directory(checkpoints, step), step, seconds), saes)
                saved_step = step
    return TrainedGroup(saes, step, seconds)


def _new_sae(
    layer: int, settings: SaesConfig, classifier: Classifier, classifier_sha256: str, steps: int
) -> TrainableSae:
    return TrainableSae(
        classifier.d_model,
        settings.d_sae,
        architecture=settings.architecture,
        k=settings.k,
        l1=settings.l1_coefficient,
        target_l0=settings.target_l0,
        silent_steps=steps // settings.epochs // 2,
        seed=start_seed(settings.seed, classifier_sha256, layer),
        device=classifier.device,
    )


def _train_fill(
    fill: Fill,
    buffer: ResidualBuffer,
    saes: Mapping[int, TrainableSae],
    schedule: Schedule,
    seed: int,
    step: int,
    progress: Progress,
) -> None:
    """Run the steps of one fill; `step` is the number of the first. Each layer leaves out its norm outliers."""
    residuals = buffer.fill(fill, progress)
    if step == 0:
        for layer, sae in saes.items():
            sae.start_from(residuals[layer])
    batches = {layer: _batches(fill, sae.ordinary_rows(residuals[layer]), seed) for layer, sae in saes.items()}
    for number in range(fill.steps):
        penalty, learning_rate = schedule.penalty(step + number), schedule.learning_rate(step + number)
        for layer, sae in saes.items():
            rows = batches[layer][number]
            if len(rows):  # a small fill can have fewer ordinary positions than steps
                sae.step(residuals[layer].index_select(0, rows), penalty=penalty, learning_rate=learning_rate)
        progress.advance()


def _batches(fill: Fill, rows: Tensor, seed: int) -> list[Tensor]:
    """The rows of a fill that an SAE is trained on, int64 [R], shuffled and divided among its steps."""
    return [rows[torch.from_numpy(places).to(rows.device)] for places in batches_of(fill, len(rows), seed)]


def _check_finite(saes: Mapping[int, TrainableSae], step: int, work: Path) -> None:
    for layer, sae in saes.items():
        if not sae.is_finite():
            raise SaeError(
                f"training of layer {layer} diverged before step {step}",
                field="saes.learning_rate",
                fix=f"lower it, and remove {work} to start over",
            )


def _write_checkpoint(checkpoint: Checkpoint, saes: Mapping[int, TrainableSae]) -> None:
    checkpoint.path.mkdir(parents=True)
    tensors = {
        f"{layer}.{name}": value.contiguous().cpu()
        for layer, sae in saes.items()
        for name, value in sae.checkpoint_tensors().items()
    }
    save_file(tensors, checkpoint.path / _TENSORS_FILE)
    complete_checkpoint(checkpoint)


def _load_tensors(checkpoint: Path, saes: Mapping[int, TrainableSae]) -> None:
    tensors = load_file(checkpoint / _TENSORS_FILE)
    for layer, sae in saes.items():
        prefix = f"{layer}."
        sae.load_checkpoint_tensors(
            {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        )


@contextmanager
def _tensor_cores(device: torch.device) -> Iterator[None]:
    """Let a GPU multiply float32 matrices on its tensor cores, in TF32."""
    precision = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
