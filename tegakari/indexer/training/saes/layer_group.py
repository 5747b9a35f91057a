"""Training of a group of layers from one series of forward passes, resumed from its newest checkpoint.

Each rank trains the layers that it owns, and writes their part of a checkpoint. Another number of ranks can resume it.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import structlog
from safetensors.torch import load_file, save_file
from torch import Tensor

from tegakari.indexer.training.checkpoint import (
    Checkpoint,
    checkpoint_directory,
    complete_checkpoint,
    newest_checkpoint,
)
from tegakari.indexer.training.saes.fills import Fill, ResidualBuffer, batches_of, plan_fills
from tegakari.indexer.training.saes.forward_passes import ForwardPasses
from tegakari.indexer.training.saes.gradients import step_flop
from tegakari.indexer.training.saes.ranks import Ranks
from tegakari.indexer.training.saes.schedule import Schedule
from tegakari.indexer.training.saes.trainable import TrainableSae
from tegakari.models.classifier import Classifier
from tegakari.models.memory import wait_for
from tegakari.models.precision import float32_products
from tegakari.models.sae_start import start_seed
from tegakari.models.tokens import Tokenized
from tegakari.schemas.config import Config, SaesConfig
from tegakari.schemas.errors import SaeError
from tegakari.schemas.progress import Progress
from tegakari.schemas.saes import Precision
from tegakari.store.disk.durable import fsync

log = structlog.get_logger()


def _tensors_file(checkpoint: Path, layer: int) -> Path:
    """File of a layer in a checkpoint."""
    return checkpoint / f"layer_{layer:02d}.safetensors"


class Throughput(NamedTuple):
    """Work of an attempt and its time."""

    positions: int
    """of the steps of each layer, norm outliers included"""
    flop: int
    """operations of the matrix products of all steps and layers"""
    seconds: float
    """forward passes and steps"""
    step_seconds: float
    """steps alone"""


class TrainedGroup(NamedTuple):
    """The SAEs of a group after the last step."""

    saes: dict[int, TrainableSae]
    """by layer, those that this rank owns."""
    steps: int
    seconds: float
    """training time over all attempts."""
    fills: list[Throughput]
    """of this attempt, fill by fill, over all ranks."""


def train_group(
    config: Config,
    passes: ForwardPasses,
    classifier_sha256: str,
    documents: Sequence[Tokenized],
    layers: Sequence[int],
    precision: Precision,
    checkpoints: Path,
    progress: Progress,
) -> TrainedGroup:
    """Train the SAEs of layers, from the newest checkpoint if there is one.

    Args:
        config: its saes section holds the settings; index.batch_tokens, the tokens per forward pass.
        passes: forward passes of the classifier whose residuals the SAEs reconstruct, for the layers of the group.
        classifier_sha256: its fingerprint, which decides the initial directions.
        documents: the training documents, each with a countable position.
        layers: of the group; this rank trains those of them that it owns.
        precision: of the steps' matrix products.
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
    ranks = passes.ranks
    saes = {
        layer: _new_sae(layer, settings, passes.classifier, classifier_sha256, total, precision)
        for layer in passes.owned
    }
    step, seconds = 0, 0.0
    if checkpoint := ranks.from_first(lambda: newest_checkpoint(checkpoints)):
        step, seconds = checkpoint.step, checkpoint.seconds
        _load_tensors(checkpoint.path, saes)
        if ranks.is_first:
            log.info("resuming", layers=list(layers), step=step, of=total)
    progress.stage(f"training SAEs of layers {layers[0]} to {layers[-1]}", total, done=step)
    buffer = ResidualBuffer(passes, documents, fills, config.index.batch_tokens)
    schedule = Schedule(settings, total)
    start, saved_step = time.perf_counter() - seconds, step
    throughputs: list[Throughput] = []
    with float32_products(tf32=precision == "tf32"):
        for fill in fills[bisect_right(last_steps, step) :]:
            throughputs.append(_train_fill(fill, buffer, saes, schedule, settings.seed, step, progress))
            step += fill.steps
            if step - saved_step >= settings.checkpoint_steps or step == total:
                _check_finite(saes, step, checkpoints.parent)
                seconds = round(time.perf_counter() - start, 2)
                _write_checkpoint(Checkpoint(checkpoint_directory(checkpoints, step), step, seconds), saes, ranks)
                saved_step = step
    return TrainedGroup(saes, step, seconds, _of_all_ranks(throughputs, ranks))


def _of_all_ranks(throughputs: list[Throughput], ranks: Ranks) -> list[Throughput]:
    """Throughput of each fill over all ranks: the sum of the operations, and the time of the slowest."""
    return [
        Throughput(
            fill[0].positions,
            sum(rank.flop for rank in fill),
            max(rank.seconds for rank in fill),
            max(rank.step_seconds for rank in fill),
        )
        for fill in zip(*ranks.gather(throughputs), strict=True)
    ]


def _new_sae(
    layer: int, settings: SaesConfig, classifier: Classifier, classifier_sha256: str, steps: int, precision: Precision
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
        precision=precision,
        compiled=settings.compile,
    )


def _train_fill(
    fill: Fill,
    buffer: ResidualBuffer,
    saes: Mapping[int, TrainableSae],
    schedule: Schedule,
    seed: int,
    step: int,
    progress: Progress,
) -> Throughput:
    """Run the steps of one fill; `step` is the number of the first. Each layer leaves out its norm outliers.

    The host waits for a GPU between fills alone.
    """
    start = time.perf_counter()
    residuals = buffer.fill(fill, progress)
    if step == 0:
        for layer, sae in saes.items():
            sae.start_from(residuals[layer])
    batches = {layer: batches_of(fill, sae.ordinary_rows(residuals[layer]), seed) for layer, sae in saes.items()}
    wait_for(buffer.device)
    steps_start = time.perf_counter()
    train_steps(saes, residuals, batches, schedule, step, progress)
    wait_for(buffer.device)
    end = time.perf_counter()
    flop = sum(
        step_flop(sum(map(len, batches[layer])), d_model=sae.W_dec.shape[1], d_sae=sae.W_dec.shape[0])
        for layer, sae in saes.items()
    )
    return Throughput(buffer.positions(fill), flop, end - start, end - steps_start)


def train_steps(
    saes: Mapping[int, TrainableSae],
    residuals: Mapping[int, Tensor],
    batches: Mapping[int, Sequence[Tensor]],
    schedule: Schedule,
    first: int,
    progress: Progress,
) -> None:
    """Run a step of every SAE per batch; does not wait for a GPU.

    Args:
        saes: by layer, as all of the following.
        residuals: [P, d_model].
        batches: rows of the residuals of each step, int64.
        schedule: of learning rate and penalty.
        first: number of the first step.
        progress: advanced by each step.
    """
    for number, rows_of_layers in enumerate(zip(*(batches[layer] for layer in saes), strict=True)):
        penalty, learning_rate = schedule.penalty(first + number), schedule.learning_rate(first + number)
        for (layer, sae), rows in zip(saes.items(), rows_of_layers, strict=True):
            if len(rows):  # a small fill can have fewer ordinary positions than steps
                sae.step(residuals[layer].index_select(0, rows), penalty=penalty, learning_rate=learning_rate)
        progress.advance()


def _check_finite(saes: Mapping[int, TrainableSae], step: int, work: Path) -> None:
    for layer, sae in saes.items():
        if not sae.is_finite():
            raise SaeError(
                f"training of layer {layer} diverged before step {step}",
                field="saes.learning_rate",
                fix=f"lower it, and remove {work} to start over",
            )


def _write_checkpoint(checkpoint: Checkpoint, saes: Mapping[int, TrainableSae], ranks: Ranks) -> None:
    ranks.from_first(lambda: checkpoint.path.mkdir(parents=True))
    for layer, sae in saes.items():
        file = _tensors_file(checkpoint.path, layer)
        save_file({name: value.contiguous().cpu() for name, value in sae.checkpoint_tensors().items()}, file)
        fsync(file)
    ranks.wait()  # a checkpoint is complete with the files of all ranks
    if ranks.is_first:
        complete_checkpoint(checkpoint)


def _load_tensors(checkpoint: Path, saes: Mapping[int, TrainableSae]) -> None:
    for layer, sae in saes.items():
        sae.load_checkpoint_tensors(load_file(_tensors_file(checkpoint, layer)))
