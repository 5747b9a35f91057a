"""Loading a fine-tuned classifier from a directory: safetensors only, no code that comes with the model is run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from tegakari.models.architecture import find_blocks, text_config
from tegakari.models.classifier import Classifier
from tegakari.models.declared import check_positions, check_task, check_vocabulary, declared_labels, padding_id
from tegakari.models.head import PROBES, detect_head
from tegakari.models.model_files import check_model_directory, read_config
from tegakari.models.quiet import silent_transformers
from tegakari.models.self_test import self_test
from tegakari.models.tokenizer import load_tokenizer
from tegakari.models.tokens import tokenize
from tegakari.models.weights import check_weights
from tegakari.schemas.errors import ModelError

_FIELD = "classifier.path"
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
        ModelError: files of the model are absent or not what their names say, weights are missing or left over, the
            configuration contradicts itself, the weights, the tokenizer or `max_length`, the architecture has no list
            of blocks, the device is unusable, the logits are not finite, or `detect_head`
            refuses the head, or `self_test` the model.
    """
    directory = Path(path)
    check_model_directory(directory)
    torch_device = resolve_device(device)
    torch_dtype = resolve_dtype(dtype, torch_device)
    config = read_config(directory)
    check_task(config, directory, _FIELD)
    labels = declared_labels(config, directory, _FIELD)
    tokenizer = load_tokenizer(directory, _FIELD)
    model = _load_model(directory, torch_dtype)
    check_vocabulary(model, tokenizer, _FIELD)
    check_positions(model, max_length)
    model = model.to(torch_device).eval()  # type: ignore[arg-type]  # the stub takes the class for the object
    model.config.pad_token_id = padding_id(model, tokenizer, _FIELD)
    text_config(model).pad_token_id = model.config.pad_token_id  # where a model of text and images looks it up
    labels = labels or tuple((model.config.id2label or {}).values())  # the default: LABEL_0, LABEL_1
    blocks = find_blocks(model)
    head = detect_head(model, blocks, tokenize(tokenizer, PROBES, max(max_length, 16)))
    return self_test(Classifier(model, tokenizer, blocks, labels, max_length, torch_device, torch_dtype, head))


def _load_model(directory: Path, dtype: torch.dtype) -> PreTrainedModel:
    try:
        with silent_transformers():
            model, loading_info = AutoModelForSequenceClassification.from_pretrained(
                directory,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=dtype,
                ignore_mismatched_sizes=True,  # `check_weights` names what does not fit
                output_loading_info=True,
                **attention_of(directory),
            )
    except SafetensorError as error:
        raise ModelError(
            f"the weights of {directory} are damaged: {error}", field=_FIELD, fix="copy the model again"
        ) from None
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        ImportError,
        AttributeError,
        AssertionError,
    ) as error:
        raise ModelError(
            f"{directory} is not a sequence classifier: {error}",
            field=_FIELD,
            fix="run `tegakari finetune`, which writes one",
        ) from None
    check_weights(model, loading_info, directory, field=_FIELD)
    return model


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
