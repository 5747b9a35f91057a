"""Model and tokens that an SAE was trained on, and what of them differs in the classifier that it is used with."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from torch import nn

from tegakari.models.classifier import Classifier
from tegakari.models.sae import Sae, TrainingConditions
from tegakari.schemas.classifier import REPORT_FILE, ClassifierReport
from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import SaeError

CENTRED_EXACTLY = ("codegen", "gpt2", "gpt_neo", "gpt_neox", "gptj", "olmo", "phi", "stablelm")
"""Families in which `center_writing_weights` of TransformerLens subtracts the mean over d_model from every residual,
and nothing else: all that is written to the residual is centred, and each block begins with a LayerNorm of it."""

_ALIASES = {"gpt2small": "gpt2"}
"""Names of TransformerLens that differ from those of a hub."""


def under_conditions(saes: Mapping[int, Sae], classifier: Classifier) -> dict[int, Sae]:
    """SAEs as they apply to a classifier's residuals, with the doubts that differences of their training raise.

    The mean over d_model is subtracted where the model of the training subtracted it: `center_writing_weights` has no
    effect in families without LayerNorm.

    Args:
        saes: by layer, as read.
        classifier: that they fit.

    Raises:
        SaeError: the model was centred, and of the classifier's family the centred residual is not known.
    """
    base = base_name(classifier)
    return {layer: _under_conditions(layer, sae, classifier, base) for layer, sae in saes.items()}


def _under_conditions(layer: int, sae: Sae, classifier: Classifier, base: str | None) -> Sae:
    has_layer_norm = any(_is_layer_norm(module) for module in classifier.blocks[layer].modules())
    family = classifier.model.config.model_type
    centred = sae.centred and has_layer_norm
    if centred and family not in CENTRED_EXACTLY:
        raise SaeError(
            f"the SAE of layer {layer} was trained on a model loaded with center_writing_weights, and for {family} "
            "models the residual of such a model is not known",
            field="center_writing_weights",
            fix=f"use an SAE of an unprocessed model; centred ones can be used with {', '.join(CENTRED_EXACTLY)}",
        )
    doubts = (*sae.doubts, *_doubts(sae.training, classifier, base))
    if sae.training.centring_assumed and has_layer_norm:
        read = "with the mean over d_model subtracted, as SAELens before 3.19.2 did" if centred else "without centring"
        doubts = (*doubts, f"its configuration does not say whether its model was centred; it is read {read}")
    return dataclasses.replace(sae, centred=centred, doubts=doubts)


def _is_layer_norm(module: nn.Module) -> bool:
    name = type(module).__name__
    return isinstance(module, nn.LayerNorm) or (name.endswith("LayerNorm") and "RMS" not in name.upper())


def _doubts(training: TrainingConditions, classifier: Classifier, base: str | None) -> Iterator[str]:
    if training.model_name and base and not _is_same_model(training.model_name, base):
        yield f"it was trained on {training.model_name}, the classifier's base is {base}"
    if training.context_size is not None and classifier.max_length > training.context_size:
        yield (
            f"it was trained on documents of up to {training.context_size} tokens, the classifier reads up to "
            f"{classifier.max_length}"
        )
    begins = begins_with_bos(classifier)
    if training.prepend_bos is not None and training.prepend_bos != begins:
        with_or_without = {True: "with", False: "without"}
        yield (
            f"it was trained on documents {with_or_without[training.prepend_bos]} a BOS token at their start, the "
            f"classifier reads them {with_or_without[begins]} one"
        )


def begins_with_bos(classifier: Classifier) -> bool:
    """Whether the tokenizer puts a BOS token before a document."""
    tokenizer = classifier.tokenizer
    ids = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id is not None and len(ids) > 0 and ids[0] == tokenizer.bos_token_id


def base_name(classifier: Classifier) -> str | None:
    """Name of the model that a classifier was fine-tuned from, by tegakari's report or transformers' configuration."""
    directory = Path(classifier.model.config.name_or_path or ".")
    try:
        return decode_json((directory / REPORT_FILE).read_bytes(), ClassifierReport).base
    except (OSError, msgspec.DecodeError):
        pass
    try:
        name = msgspec.json.decode((directory / "config.json").read_bytes()).get("_name_or_path")
    except (OSError, msgspec.DecodeError):
        return None
    return name if isinstance(name, str) and name else None


def _is_same_model(name: str, base: str) -> bool:
    """Whether names may be of one model: a directory is often named by a part of its model's name."""
    if Path(base).is_absolute() or base.startswith((".", "~")):
        return _bare(name) in _bare(base) or _bare(base) in _bare(name)
    return _bare(name) == _bare(base)


def _bare(name: str) -> str:
    """Name without its owner, directories, case and separators."""
    bare = re.sub(r"[^a-z0-9]", "", Path(name).name.lower())
    return _ALIASES.get(bare, bare)


def grouped_doubts(saes: Mapping[int, Sae]) -> list[str]:
    """Doubts about the SAEs of a set, each once with its layers: `layers 0, 1 and 2: it was ...`."""
    layers_of: dict[str, list[int]] = {}
    for layer, sae in sorted(saes.items()):
        for doubt in sae.doubts:
            layers_of.setdefault(doubt, []).append(layer)
    return [f"{_named_layers(layers)}: {doubt}" for doubt, layers in layers_of.items()]


def _named_layers(layers: list[int]) -> str:
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if len(layers) > 2 and layers == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    return f"layers {', '.join(map(str, layers[:-1]))} and {layers[-1]}"
