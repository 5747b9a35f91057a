"""Full fine-tuning with transformers' Trainer: linear schedule, resumable, reproducible."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
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

from tegakari.indexer.training.checkpoint import Checkpoint, checkpoint_directory, complete_checkpoint
from tegakari.indexer.training.classifier.examples import Example, TrainingSet, make_batch
from tegakari.indexer.training.classifier.order import LengthGroupedOrder
from tegakari.indexer.training.classifier.packing import check_packable, make_packed_batch, packed_loss
from tegakari.indexer.training.step_progress import StepProgress
from tegakari.models.memory import peak_bytes
from tegakari.schemas.config import ClassifierConfig
from tegakari.schemas.errors import ModelError
from tegakari.schemas.progress import Progress

LOSS_STEPS = 20
"""Steps between two checks of the loss."""


class TrainingCost(NamedTuple):
    """Steps, time and memory of a training."""

    steps: int
    seconds: float
    """over all attempts, up to the last step."""
    peak_memory_bytes: int
    """as of `peak_bytes`."""


def train(
    model: PreTrainedModel,
    examples: Sequence[Example],
    settings: ClassifierConfig,
    *,
    device: torch.device,
    bfloat16: bool,
    work: Path,
    checkpoint: Checkpoint | None,
    progress: Progress,
    checkpoints: bool = True,
) -> TrainingCost:
    """Train all weights of a model in place: AdamW, learning rate falling linearly to 0, no warm-up, cross-entropy.

    Args:
        model: from `load_base_model`; float32.
        examples: the training documents.
        settings: settings of the optimizer and the schedule.
        device: the CPU or the first GPU.
        bfloat16: compute matrix products in bfloat16; weights, gradients and optimizer state stay float32.
        work: directory of the checkpoints.
        checkpoint: the checkpoint to resume from; None: start at step 0.
        progress: receives the stage "fine-tuning" with its steps and loss.
        checkpoints: write them.

    Raises:
        ModelError: training diverged: the loss is not finite; or the model cannot read packed batches.
    """
    if settings.packed:
        check_packable(model)
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
            packed=settings.packed,
            args=_arguments(settings, device, bfloat16, work, checkpoints),
            data_collator=partial(
                make_packed_batch if settings.packed else make_batch, pad_id=model.config.pad_token_id
            ),
            callbacks=[_DivergenceCheck(), _CheckpointCompletion(clock), StepProgress(progress, "fine-tuning")],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    return TrainingCost(trainer.state.global_step, round(clock.seconds, 2), peak_bytes(device))


def _arguments(
    settings: ClassifierConfig, device: torch.device, bfloat16: bool, work: Path, checkpoints: bool
) -> TrainingArguments:
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
        save_strategy="steps" if checkpoints else "no",
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
    # Trainer would spread a batch over all visible GPUs, which changes the batch size and the result.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class _OrderedTrainer(Trainer):
    """A Trainer that reads the documents in the order of a `LengthGroupedOrder`, padded or packed."""

    def __init__(self, examples: TrainingSet, order: LengthGroupedOrder, packed: bool, **arguments: Any) -> None:
        super().__init__(train_dataset=examples, **arguments)
        self._examples = examples
        self._order = order
        self._packed = packed

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *arguments: Any, **named: Any) -> Any:
        if not self._packed:
            return super().compute_loss(model, inputs, *arguments, **named)
        with self.accelerator.autocast():
            return packed_loss(cast(PreTrainedModel, model), inputs)

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
    """Training time in seconds, including the time before the checkpoint."""

    def __init__(self, before: float) -> None:
        self._before = before
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._start


class _CheckpointCompletion(TrainerCallback):
    """Marks a checkpoint complete after Trainer has written all of it, then removes the previous one."""

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        assert args.output_dir is not None
        path = checkpoint_directory(Path(args.output_dir), state.global_step)
        complete_checkpoint(Checkpoint(path, state.global_step, self._clock.seconds))


class _DivergenceCheck(TrainerCallback):
    """Ends a training whose loss is not finite."""

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **event: Any) -> None:
        logs = event["logs"]
        loss = logs.get("loss", logs.get("train_loss", 0.0))
        if not math.isfinite(loss):
            raise ModelError(
                f"training diverged: the loss is {loss} at step {state.global_step}",
                field="classifier.learning_rate",
                fix=f"lower it, and remove {args.output_dir} to start over",
            )


def _recompute_activations(model: PreTrainedModel) -> None:
    # The method's name is activation checkpointing in transformers 5.2x, gradient checkpointing in earlier versions.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()


@contextmanager
def _deterministic() -> Iterator[None]:
    """Let torch use deterministic kernels where it has them."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first use
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic  # its attributes are unknown to a type checker
    filling = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = False  # a kernel per tensor, for programs that read garbage
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")
            yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        settings.fill_uninitialized_memory = filling
