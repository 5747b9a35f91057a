"""Loading a fine-tuned classifier from a directory: safetensors only, no code that comes with the model is run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from tegakari.models.architecture import find_blocks, text_config
from tegakari.models.classifier import Classifier
from tegakari.models.file_sizes import has_holes
from tegakari.models.head import PROBES, detect_head
from tegakari.models.self_test import self_test
from tegakari.models.tokens import tokenize
from tegakari.schemas.errors import ModelError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_classifier(
    path: str | Path,
    *,
    max_length: int = 512,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
) -> Classifier:
    """Load a fine-tuned classifier.

    Args:
        path: directory of the model, with its tokenizer.
        max_length: tokens per document; the end of a longer document is cut.
        device: see `resolve_device`.
        dtype: see `resolve_dtype`.

    Raises:
        ModelError: no such directory, no safetensors, no tokenizer, no list of blocks, an unusable device, or a head
            that `detect_head` or a model that `self_test` refuses.
    """
    directory = Path(path)
    check_model_directory(directory)
    disable_progress_bar()  # transformers' bar would break tegakari's own
    torch_device = resolve_device(device)
    torch_dtype = resolve_dtype(dtype, torch_device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        model = AutoModelForSequenceClassification.from_pretrained(
            directory, trust_remote_code=False, use_safetensors=True, dtype=torch_dtype, **attention_of(directory)
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelError(
            f"{directory} is not a sequence classifier: {error}",
            field="classifier.path",
            fix="run `tegakari finetune`, which writes one",
        ) from None
    tokenizer.padding_side = "right"
    model = model.to(torch_device).eval()
    model.config.pad_token_id = pad_id_of(tokenizer)
    text_config(model).pad_token_id = model.config.pad_token_id  # where a model of text and images looks it up
    labels = tuple(model.config.id2label[index] for index in range(model.config.num_labels))
    blocks = find_blocks(model)
    head = detect_head(model, blocks, tokenize(tokenizer, PROBES, max(max_length, 16)))
    return self_test(Classifier(model, tokenizer, blocks, labels, max_length, torch_device, torch_dtype, head))


def check_model_directory(
    directory: Path, *, field: str = "classifier.path", missing: str = "run `tegakari finetune` first"
) -> None:
    """Refuse a directory that holds no model, or one that would have to be unpickled.

    Args:
        directory: of the model.
        field: the configuration key that named it.
        missing: fix for a directory without a model.

    Raises:
        ModelError: no config.json, no safetensors, or files with holes, or no tokenizer.
    """
    if not (directory / "config.json").is_file():
        raise ModelError(f"no model in {directory}", field=field, fix=missing)
    if not any(directory.glob("*.safetensors")):
        raise ModelError(
            f"{directory} has no safetensors weights",
            field=field,
            fix="save the model with save_pretrained(..., safe_serialization=True); pickled weights are not loaded",
        )
    for file in directory.glob("*.safetensors"):
        if has_holes(file):
            raise ModelError(f"most of {file} is not on the disk", field=field, fix="copy the model again")
    if not any((directory / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.txt")):
        # transformers would make an empty tokenizer, which reads every text as nothing.
        raise ModelError(f"{directory} has no tokenizer", field=field, fix="save a tokenizer.json beside the model")


def resolve_device(device: str) -> torch.device:
    """Device of a name; `auto` is the first GPU if there is one, else the CPU.

    Raises:
        ModelError: not the name of a device, or a GPU where none is usable.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise ModelError(f"{device!r} is not a device", field="index.device", fix="use auto, cpu or cuda") from None
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"{device!r}, but no GPU is usable", field="index.device", fix="use auto or cpu")
    return resolved


def resolve_dtype(dtype: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype:
    """Dtype of a name; `auto` is bfloat16 on a GPU and float32 elsewhere."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return DTYPES[dtype]


def attention_of(path: str | Path) -> dict[str, str]:
    """Keyword arguments of `from_pretrained` that select an exact implementation of attention.

    Gemma 2's soft-capped attention has no fused implementation: eager is exact.
    """
    from transformers import AutoConfig

    family = AutoConfig.from_pretrained(path, trust_remote_code=False).model_type
    return {"attn_implementation": "eager"} if family == "gemma2" else {}


def pad_id_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id of the padding token; a tokenizer without one pads with its end token.

    Raises:
        ModelError: the tokenizer has neither.
    """
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if isinstance(token, int):
            return token
    raise ModelError(
        "the tokenizer has neither a padding nor an end token",
        field="classifier.base",
        fix="add a padding token to the tokenizer and save it again",
    )
