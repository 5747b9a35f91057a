"""dictionary_learning (saprmarks): ae.pt, read without unpickling code, beside config.json."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tegakari.models.sae import Activation, Sae
from tegakari.models.sae_formats.format import SaeFormat, read_json
from tegakari.models.sae_formats.layer_names import layer_of_hook
from tegakari.schemas.errors import SaeError

CONFIG = "config.json"
WEIGHTS = "ae.pt"


class _DictionaryClass(NamedTuple):
    """One of the library's classes: its tensors, and the formula of its `encode`."""

    tensors: Mapping[str, str]
    """field of `Sae` -> name of its tensor in ae.pt"""
    activation: Activation = "relu"
    apply_b_dec_to_input: bool = True
    unit_decoder: bool = False
    """whether `encode` multiplies activations by the norms of the decoder rows"""


_LINEAR = {"W_enc": "encoder.weight", "W_dec": "decoder.weight"}
"""Weights of torch's Linear, [out, in]: transposed."""
_PARAMETERS = {name: name for name in ("W_enc", "W_dec", "b_enc", "b_dec")}

_CLASSES: dict[str, _DictionaryClass] = {
    "AutoEncoder": _DictionaryClass({**_LINEAR, "b_enc": "encoder.bias", "b_dec": "bias"}),
    "AutoEncoderNew": _DictionaryClass(
        {**_LINEAR, "b_enc": "encoder.bias", "b_dec": "decoder.bias"}, apply_b_dec_to_input=False
    ),
    "AutoEncoderTopK": _DictionaryClass({**_LINEAR, "b_enc": "encoder.bias", "b_dec": "b_dec"}, "topk"),
    "BatchTopKSAE": _DictionaryClass({**_LINEAR, "b_enc": "encoder.bias", "b_dec": "b_dec"}, "batch_topk"),
    "MatryoshkaBatchTopKSAE": _DictionaryClass(_PARAMETERS, "batch_topk"),
    "JumpReluAutoEncoder": _DictionaryClass(
        {**_PARAMETERS, "threshold": "threshold"}, "jumprelu", apply_b_dec_to_input=False, unit_decoder=True
    ),
    "GatedAutoEncoder": _DictionaryClass(
        {**_LINEAR, "b_enc": "gate_bias", "b_dec": "decoder_bias", "r_mag": "r_mag", "b_mag": "mag_bias"},
        "gated",
        unit_decoder=True,
    ),
}


def load(directory: Path) -> Sae:
    """Read an SAE of one of the classes in `_CLASSES`, with the activations of that class's `encode`.

    Raises:
        SaeError: another class, another place than the residual, or a file that would need code to be unpickled.
    """
    config = read_json(directory / CONFIG)
    trainer: dict[str, Any] = config["trainer"]
    dictionary = _CLASSES.get(trainer.get("dict_class", ""))
    if dictionary is None:
        raise SaeError(
            f"it is a {trainer.get('dict_class')!r}", field="dict_class", fix=f"use one of: {', '.join(_CLASSES)}"
        )
    weights = _read_weights(directory / WEIGHTS)
    fields: dict[str, Any] = {
        field: weights[name].T.contiguous() if _LINEAR.get(field) == name else weights[name]
        for field, name in dictionary.tensors.items()
    }
    if dictionary.activation == "batch_topk":
        fields["threshold"] = _threshold_of_all(weights["threshold"], fields["b_enc"])
    if dictionary.activation == "topk":
        fields["k"] = int(weights["k"]) if "k" in weights else trainer["k"]
    sae = Sae(**fields, activation=dictionary.activation, apply_b_dec_to_input=dictionary.apply_b_dec_to_input)
    return replace(
        sae.with_unit_decoder() if dictionary.unit_decoder else sae,
        layer=_layer(trainer, config.get("buffer") or {}),
    )


def _read_weights(file: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise SaeError("it holds more than tensors", field=file.name, fix="save its state_dict() instead") from None
    return {name: torch.as_tensor(value).float() for name, value in state.items()}


def _threshold_of_all(threshold: Tensor, like: Tensor) -> Tensor:
    """One threshold for all features; -1 until training has set it, which would make the SAE a plain ReLU."""
    if threshold < 0:
        raise SaeError("its threshold was never set", field="threshold", fix="train it longer, which sets it")
    return torch.full_like(like, float(threshold))


def _layer(trainer: dict[str, Any], buffer: dict[str, Any]) -> int | None:
    if buffer.get("io", "out") != "out":
        raise SaeError(f"it was trained on {buffer['io']!r} of its module", field="io", fix="use an SAE of its output")
    if submodule := trainer.get("submodule_name"):
        return layer_of_hook(submodule)
    layer = trainer.get("layer")
    return layer if isinstance(layer, int) else None


FORMAT = SaeFormat("dictionary_learning", (CONFIG, WEIGHTS), load)
