"""Gemma 2 language models small enough to be trained while one waits, with everything that makes a Gemma 2 one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.progress import Progress, TaskID
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Gemma2Config,
    Gemma2ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from tegakari.store.files import disk_full_is_said, fsync_tree, rename_into_place

SLIDING_WINDOW = 64
"""positions; shorter than the demo's longest posts, so that the alternation of attention kinds has work to do."""


def make_base_model(
    path: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    hidden_size: int,
    layers: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    intermediate: int,
    seed: int,
) -> None:
    """Write an untrained Gemma 2 language model and its tokenizer to a new directory, as safetensors.

    Soft-capping, the alternation of sliding and full attention, the norms around each part and the tied embedding are
    Gemma 2's own; the attention scale is 1 / sqrt(head_dim).
    """
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=intermediate,
        query_pre_attn_scalar=head_dim,
        sliding_window=SLIDING_WINDOW,
        max_position_embeddings=1024,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        attn_implementation="eager",
    )
    set_seed(seed)
    _save(path, Gemma2ForCausalLM(config), tokenizer)


def pretrain(
    base: Path,
    target: Path,
    texts: Sequence[str],
    *,
    steps: int,
    batch_size: int = 32,
    learning_rate: float = 3e-3,
    max_length: int = 128,
    seed: int = 0,
    progress: Progress | None = None,
) -> float:
    """Train the language model in `base` on texts, one text a row, and write it with its tokenizer to `target`.

    Runs on the CPU, so that a machine with a GPU makes the same model.

    Args:
        base: directory of a causal language model.
        target: new directory; whole or absent.
        texts: what to learn to continue.
        steps: optimizer steps; the texts are gone over as often as that takes.
        batch_size: texts a step.
        learning_rate: peak of AdamW's learning rate, which falls to zero along a cosine.
        max_length: tokens; the end of a longer text is cut.
        seed: of the order of the texts.
        progress: shows the steps.

    Returns:
        the mean training loss in nats a token.
    """
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager", dtype=torch.float32)
    rows = [{"input_ids": ids} for ids in tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]]
    scratch = _beside(target, "trainer")
    arguments = TrainingArguments(
        output_dir=str(scratch),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=min(20, steps // 10),
        weight_decay=0.01,
        train_sampling_strategy="group_by_length",
        seed=seed,
        use_cpu=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    shown = [_StepBar(progress, f"language model {target.name}", steps)] if progress else []
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,  # type: ignore[arg-type]
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        callbacks=shown,
    )
    loss = trainer.train().training_loss
    shutil.rmtree(scratch, ignore_errors=True)
    _save(target, model, tokenizer)
    return loss


class _StepBar(TrainerCallback):
    """One bar of the steps."""

    def __init__(self, progress: Progress, description: str, steps: int) -> None:
        self._progress = progress
        self._task: TaskID = progress.add_task(description, total=steps)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self._progress.update(self._task, completed=state.global_step)


def _save(path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Model and tokenizer in one directory that is whole or absent."""
    staged = _beside(path, "staged")
    shutil.rmtree(staged, ignore_errors=True)
    with disk_full_is_said(path):
        model.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
        fsync_tree(staged)
        rename_into_place(staged, path)


def _beside(path: Path, purpose: str) -> Path:
    return path.with_name(f".{path.name}.{purpose}")
