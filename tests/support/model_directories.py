"""Directories of small random classifiers, written as transformers writes them, and changes of their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    LlamaConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from tests.support.tokenizer_kinds import save_tokenizer

_SIZES = {
    "vocab_size": 400,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "num_labels": 3,
}


def save_classifier(
    directory: Path, family: type[PreTrainedConfig] = LlamaConfig, kind: str = "byte-level", **settings: Any
) -> Path:
    """Write a classifier and a tokenizer of a kind; returns the directory.

    Args:
        directory: to be created.
        family: configuration class.
        kind: of `tests.support.tokenizer_kinds.KINDS`.
        settings: of the configuration; `end` and `pad` are of the tokenizer.
    """
    torch.manual_seed(0)
    of_tokenizer = {name: settings.pop(name) for name in ("end", "pad") if name in settings}
    model = AutoModelForSequenceClassification.from_config(family(**{**_SIZES, **settings}))
    for parameter in model.parameters():  # large enough that every part matters
        if parameter.ndim == 2:
            parameter.data.normal_(0, 0.25)
    model.save_pretrained(directory)
    save_tokenizer(kind, directory, **of_tokenizer)
    return directory


def change_config(directory: Path, **changes: Any) -> None:
    """Set entries of config.json; None removes an entry."""
    change_json(directory / "config.json", **changes)


def change_json(file: Path, **changes: Any) -> None:
    """Set entries of a JSON file; None removes an entry."""
    content = {**json.loads(file.read_text(encoding="utf-8")), **changes}
    file.write_text(
        json.dumps({name: value for name, value in content.items() if value is not None}, ensure_ascii=False),
        encoding="utf-8",
    )


def change_weights(directory: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Replace the tensors of model.safetensors by what a function makes of them."""
    file = directory / "model.safetensors"
    tensors = {name: tensor.contiguous().clone() for name, tensor in change(load_file(file)).items()}
    save_file(tensors, file, metadata={"format": "pt"})


FAMILIES: dict[str, type[PreTrainedConfig]] = {"llama": LlamaConfig, "bert": BertConfig, "roberta": RobertaConfig}
"""A decoder, and encoders with and without a pooler."""
