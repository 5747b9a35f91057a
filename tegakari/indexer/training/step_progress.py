"""Steps and loss of transformers' Trainer as progress of long work."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tegakari.schemas.progress import Progress


class StepProgress(TrainerCallback):
    """Reports a training as one stage: its steps, those before a checkpoint included, and the last logged loss."""

    def __init__(self, progress: Progress, stage: str) -> None:
        self._progress = progress
        self._stage = stage

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._progress.stage(self._stage, state.max_steps, done=state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._progress.advance()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **event: Any) -> None:
        if "loss" in event["logs"]:
            self._progress.note(f"loss {event['logs']['loss']:.3f}")
