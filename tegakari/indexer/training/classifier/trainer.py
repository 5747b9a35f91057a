"""Full fine-tuning with transformers' Trainer: the study's schedule, resumable, the same every time."""

from __future__ import annotations

import math
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.progress import Progress
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tegakari.indexer.training.classifier.examples import Example, TrainingSet, make_batch
from tegakari.indexer.training.classifier.order import LengthGroupedOrder
from tegakari.indexer.training.classifier.unfinished import Checkpoint, keep_only
from tegakari.schemas.config import ClassifierConfig
from tegakari.schemas.errors import ModelError

LOSS_STEPS = 20
"""Steps between looks at the loss."""


class Trained(NamedTuple):
    """What training took."""

    steps: int
    seconds: float
    peak_memory_bytes: int


def train(
    model: PreTrainedModel,
    examples: Sequence[Example],
    settings: ClassifierConfig,
    *,
    device: torch.device,
    bfloat16: bool,
    work: Path,
    checkpoint: Checkpoint | None,
    progress: Progress | None,
) -> Trained:
    """Train all weights of a model in place: AdamW, a rate that falls linearly to 0, no warm-up, cross-entropy.

    Args:
        model: from `load_base_model`; float32.
        examples: the training documents.
        settings: of the optimizer and the schedule.
        device: the CPU or the first GPU.
        bfloat16: compute matrix products in bfloat16; weights, gradients and optimizer state stay float32.
        work: where checkpoints go.
        checkpoint: to go on from.
        progress: shows steps and loss.

    Raises:
        ModelError: the loss is no longer a number.
    """
    if settings.gradient_checkpointing:
        _recompute_activations(model)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    order = LengthGroupedOrder([len(example.input_ids) for example in examples], settings.batch_size, settings.seed)
    clock = _Clock(checkpoint.seconds if checkpoint else 0.0)
    with _deterministic():
        trainer = _OrderedTrainer(
            TrainingSet(examples),
            order,
            model=model,
            args=_arguments(settings, device, bfloat16, work),
            data_collator=partial(make_batch, pad_id=model.config.pad_token_id),
            callbacks=[_StopWhereLossIsNoNumber(), _KeepCheckpoint(clock), *([_Show(progress)] if progress else [])],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    return Trained(trainer.state.global_step, round(clock.seconds, 2), _peak_memory(device))


def _arguments(settings: ClassifierConfig, device: torch.device, bfloat16: bool, work: Path) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(work),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        lr_scheduler_type="linear",
        seed=settings.seed,
        bf16=bfloat16,
        use_cpu=device.type == "cpu",
        save_strategy="steps",
        save_steps=settings.checkpoint_steps,
        logging_strategy="steps",
        logging_steps=LOSS_STEPS,
        logging_nan_inf_filter=False,
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
    )
    # With several GPUs in sight Trainer would spread a batch over all of them, which changes its size and the result.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class _OrderedTrainer(Trainer):
    """A Trainer that reads the documents in our order."""

    def __init__(self, examples: TrainingSet, order: LengthGroupedOrder, **arguments: Any) -> None:
        super().__init__(train_dataset=examples, **arguments)
        self._examples = examples
        self._order = order

    def get_train_dataloader(self) -> DataLoader:
        loader = DataLoader(
            self._examples,
            batch_size=self.args.per_device_train_batch_size,
            sampler=self._order,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)


class _Clock:
    """Seconds of training, those before the checkpoint included."""

    def __init__(self, before: float) -> None:
        self._before = before
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._start


class _KeepCheckpoint(TrainerCallback):
    """Marks a checkpoint complete once all of it is written, and only then removes the one before."""

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        assert args.output_dir is not None
        keep_only(Path(args.output_dir) / f"checkpoint-{state.global_step}", self._clock.seconds)


class _StopWhereLossIsNoNumber(TrainerCallback):
    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **what: Any) -> None:
        logs = what["logs"]
        loss = logs.get("loss", logs.get("train_loss", 0.0))
        if not math.isfinite(loss):
            raise ModelError(
                f"training diverged: the loss is {loss} at step {state.global_step}",
                field="classifier.learning_rate",
                fix=f"lower it, and remove {args.output_dir} to start over",
            )


class _Show(TrainerCallback):
    """Steps and loss on the caller's progress display."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("fine-tuning", total=None)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._progress.update(self._task, total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._progress.update(self._task, completed=state.global_step)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **what: Any) -> None:
        if "loss" in what["logs"]:
            self._progress.update(self._task, description=f"fine-tuning, loss {what['logs']['loss']:.3f}")


def _recompute_activations(model: PreTrainedModel) -> None:
    # transformers 5.2x calls it activation checkpointing; before, gradient checkpointing.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()


@contextmanager
def _deterministic() -> Iterator[None]:
    """Have torch choose kernels that give the same sums every time, wherever there are such."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
    on, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")
            yield
    finally:
        torch.use_deterministic_algorithms(on, warn_only=warn)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
