"""Gemma 2 language models small enough to train within a minute, with all architectural features of Gemma 2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.utils.data import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Gemma2Config,
    Gemma2ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from tegakari.indexer.training.step_progress import StepProgress
from tegakari.models.quiet import silent_transformers
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store.disk.durable import staged_directory, translate_disk_full

SLIDING_WINDOW = 32
"""Positions; shorter than most posts, so that sliding and full attention differ."""


def make_base_model(
    path: Path,
    tokenizer: PreTrainedTokenizerFast,
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
    those of Gemma 2; the attention scale is 1 / sqrt(head_dim).

    Args:
        path: new directory; complete or absent.
        tokenizer: from `train_tokenizer`.
        hidden_size: d_model.
        layers: decoder blocks.
        heads: attention heads, a divisor of hidden_size.
        kv_heads: heads of keys and values, a divisor of heads.
        head_dim: width of a head.
        intermediate: width of the MLP.
        seed: of the weights.

    Raises:
        DiskFullError: no space.
    """
    # Gemma2Config's default ids of <pad>, <eos> and <bos> apply: `train_tokenizer` gives the tokens Gemma's ids.
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
    )
    with silent_transformers():
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
    progress: Progress = NoProgress(),
) -> float:
    """Train the language model in `base` on texts, one text per row, and write it with its tokenizer to `target`.

    Runs on the CPU, which suffices for such a model, so that a machine with a GPU makes the same one.

    Args:
        base: directory of a causal language model.
        target: new directory; complete or absent.
        texts: training texts.
        steps: optimizer steps; the texts are repeated as often as needed.
        batch_size: texts per step.
        learning_rate: peak learning rate of AdamW; it falls to 0 along a cosine.
        max_length: tokens per text; the end of a longer text is cut.
        seed: of the order of the texts.
        progress: receives one stage, of `steps` steps.

    Returns:
        mean training loss, nats per token.

    Raises:
        DiskFullError: no space.
    """
    with silent_transformers(), TemporaryDirectory() as scratch:
        tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager", dtype=torch.float32)
        arguments = TrainingArguments(
            output_dir=scratch,
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
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=_Rows(tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]),
            data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
            callbacks=[StepProgress(progress, f"language model {target.name}")],
        )
        trainer.remove_callback(PrinterCallback)
        loss = trainer.train().training_loss
        _save(target, model, tokenizer)
    return loss


class _Rows(Dataset[dict[str, list[int]]]):
    """Token ids, one text per row."""

    def __init__(self, ids: Sequence[list[int]]) -> None:
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return {"input_ids": self._ids[index]}


def _save(path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write model and tokenizer to one directory that is complete or absent."""
    with translate_disk_full(path, field="directory"), staged_directory(path) as staged:
        model.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
