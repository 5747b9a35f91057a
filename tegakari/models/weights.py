"""Weights that a model was loaded from, compared with those that its architecture needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from tegakari.models.model_files import StoredTensor, stored_tensors
from tegakari.schemas.errors import ModelError

_DERIVED = re.compile(r"(^|\.)(position_ids|token_type_ids|(original_)?inv_freq|embed_scale|masked_bias)$")
"""Buffers that follow from the configuration, whatever the file says or does not say about them."""

_MASK = re.compile(r"(^|\.)(attn|attention|self_attn)\.bias$")
"""Causal masks that old checkpoints of GPT-2, GPT-Neo, GPT-J and GPT-NeoX contain."""

_POOLER = re.compile(r"(^|\.)pooler\.")
_ADAPTER = re.compile(r"\.(lora_[A-Za-z]+|base_layer|modules_to_save|original_module)\.")
_QUANTISED = re.compile(
    r"\.(qweight|qzeros|scales|g_idx|SCB|absmax|quant_map|quant_state\..*|weight_format|weight_packed"
    r"|weight_shape|weight_scale|weight_scale_inv|weight_blocks|weight_scales)$"
)
_FLOATS = {"F64", "F32", "F16", "BF16"}
_SAVE_AGAIN = "save the whole model again with save_pretrained, or copy its config.json and weights from one place"


def check_weights(
    model: PreTrainedModel,
    loading_info: Mapping[str, Any],
    directory: Path,
    *,
    field: str = "classifier.path",
    new_head: bool = False,
) -> None:
    """Refuse a model of which transformers initialised weights at random, or left weights of the file out.

    Weights that tie to others, and those that the architecture declares to be optional, are in no list of
    transformers. Of the rest, buffers that follow from the configuration, unused poolers and the heads of other tasks
    (`lm_head`, `cls`, `qa_outputs`) change no logit.

    Args:
        model: loaded with `ignore_mismatched_sizes`, so that weights of another shape are listed.
        loading_info: `output_loading_info` of `from_pretrained`.
        directory: of the model.
        field: the configuration key that named it.
        new_head: whether the head may be new, and with it the pooler of an encoder: the base of a fine-tuning.

    Raises:
        ModelError: a weight is missing, has another name or another shape, or has no place in the architecture.
    """
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    missing = sorted(key for key in loading_info["missing_keys"] if key in parameters or not _DERIVED.search(key))
    mismatched = {key: (file, needed) for key, file, needed in loading_info["mismatched_keys"]}
    stored = stored_tensors(directory)
    unused = sorted(key for key in loading_info["unexpected_keys"] if not _harmless(model, key, stored.get(key)))
    body = f"{model.base_model_prefix}."
    _check_kind(unused, directory, field)
    _check_prefix(missing, set(loading_info["unexpected_keys"]), body, directory, field)
    if new_head:
        missing = [key for key in missing if key.startswith(body) and not _POOLER.search(key)]
        mismatched = {key: shapes for key, shapes in mismatched.items() if key.startswith(body)}
        # The head of another task or of other labels is replaced.
        unused = [key for key in unused if key.startswith(body) or not hasattr(model, key.partition(".")[0])]
    if missing and not any(key.startswith(body) for key in missing):
        raise ModelError(
            f"{directory} has no {missing[0]}: it is a base model without a classification head",
            field=field,
            fix="run `tegakari finetune` with it as `classifier.base`",
        )
    if missing or any(key.startswith(body) for key in mismatched):
        absent = sorted({*missing, *mismatched})
        raise ModelError(
            f"{directory} lacks {len(absent)} of the model's weights, or has them in another shape: {absent[0]}",
            field=field,
            fix="give weights of the architecture in its config.json",
        )
    for key, (file, needed) in mismatched.items():
        raise ModelError(
            f"config.json of {directory} declares {model.config.num_labels} labels, but {key} has the shape "
            f"{list(file)}, not {list(needed)}",
            field=field,
            fix="correct `id2label` in config.json: one label per row of the head",
        )
    if unused:
        raise ModelError(
            f"{directory} has {len(unused)} weights that the architecture in its config.json does not have: "
            f"{unused[0]}",
            field=field,
            fix=_SAVE_AGAIN,
        )
    _check_types(parameters, stored, directory, field)


def _harmless(model: PreTrainedModel, key: str, tensor: StoredTensor | None) -> bool:
    """Whether a tensor of the file that the architecture does not have changes no logit."""
    if _DERIVED.search(key) or _POOLER.search(key):
        return True
    if _MASK.search(key) and tensor is not None and (len(tensor.shape) == 4 or tensor.dtype in ("BOOL", "U8")):
        return True
    if key.startswith(f"{model.base_model_prefix}.") or _ADAPTER.search(key) or _QUANTISED.search(key):
        return False
    # A part of the whole that the architecture lacks, such as lm_head; `score.bias` is a part of a head that it has.
    part = key.partition(".")[0]
    return not hasattr(model, part) and not hasattr(model.base_model, part)  # a base is saved without its prefix


def _check_kind(unused: list[str], directory: Path, field: str) -> None:
    """Refuse weights whose names show that they are an adapter's or quantised."""
    if adapter := [key for key in unused if _ADAPTER.search(key)]:
        raise ModelError(
            f"{directory} holds an adapter that is not merged into the weights: {adapter[0]}",
            field=field,
            fix="call PEFT's merge_and_unload() on the model and save the result",
        )
    if quantised := [key for key in unused if _QUANTISED.search(key)]:
        raise _quantised(quantised[0], directory, field)


def _check_prefix(missing: list[str], unexpected: set[str], body: str, directory: Path, field: str) -> None:
    """Refuse weights that have a prefix before the names which the architecture gives them."""
    for needed in missing:
        for name in (needed, needed.removeprefix(body)):
            for key in sorted(key for key in unexpected if key.endswith(f".{name}")):
                prefix = key.removesuffix(name)
                others = [prefix + (other if name == needed else other.removeprefix(body)) for other in missing]
                if 2 * len(unexpected.intersection(others)) >= len(missing):
                    raise ModelError(
                        f"the weights of {directory} have the prefix {prefix!r}: {key} instead of {name}",
                        field=field,
                        fix=_fix_of_prefix(prefix),
                    )


def _fix_of_prefix(prefix: str) -> str:
    if "_orig_mod." in prefix:
        return "save the model inside torch.compile's wrapper: model._orig_mod.save_pretrained(...)"
    if prefix.startswith("module."):
        return "save the model inside the wrapper for several GPUs: model.module.save_pretrained(...)"
    return f"remove {prefix!r} from the names of the weights, and save them again"


def _quantised(key: str, directory: Path, field: str) -> ModelError:
    return ModelError(
        f"{directory} holds quantised weights: {key}", field=field, fix="give the model before its quantisation"
    )


def _check_types(parameters: Iterable[str], stored: Mapping[str, StoredTensor], directory: Path, field: str) -> None:
    """Refuse integers where the architecture has real numbers: packed weights, which would be read as values."""
    for name in sorted(stored.keys() & set(parameters)):
        if stored[name].dtype not in _FLOATS and not stored[name].dtype.startswith("F8"):
            raise _quantised(f"{name} is of type {stored[name].dtype}", directory, field)
