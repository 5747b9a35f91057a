"""dictionary_learning (saprmarks): ae.pt, read without unpickling code, beside config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tegakari.models.sae import Activation, Sae, TrainingConditions
from tegakari.models.sae_formats.format import SaeFormat, read_checkpoint, read_json, whole_number
from tegakari.models.sae_site import Site, residual_layer, sites_of_config
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
    """whether activations are multiplied by the norms of the decoder rows when an SAE is loaded"""


_LINEAR = {"W_enc": "encoder.weight", "W_dec": "decoder.weight"}
"""Weights of torch's Linear, [out, in]: transposed."""
_PARAMETERS = {name: name for name in ("W_enc", "W_dec", "b_enc", "b_dec")}

# As the classes of release 0.1.0 do: `AutoEncoder.from_pretrained` normalizes the decoder unless it is told not to,
# and no other class does. Encode of the gated class and of JumpReLU multiplied by the norms in 2024.
_CLASSES: dict[str, _DictionaryClass] = {
    "AutoEncoder": _DictionaryClass({**_LINEAR, "b_enc": "encoder.bias", "b_dec": "bias"}, unit_decoder=True),
    "AutoEncoderNew": _DictionaryClass(
        {**_LINEAR, "b_enc": "encoder.bias", "b_dec": "decoder.bias"}, apply_b_dec_to_input=False
    ),
    "AutoEncoderTopK": _DictionaryClass({**_LINEAR, "b_enc": "encoder.bias", "b_dec": "b_dec"}, "topk"),
    "BatchTopKSAE": _DictionaryClass({**_LINEAR, "b_enc": "encoder.bias", "b_dec": "b_dec"}, "batch_topk"),
    "MatryoshkaBatchTopKSAE": _DictionaryClass(_PARAMETERS, "batch_topk"),
    "JumpReluAutoEncoder": _DictionaryClass(
        {**_PARAMETERS, "threshold": "threshold"}, "jumprelu", apply_b_dec_to_input=False
    ),
    "GatedAutoEncoder": _DictionaryClass(
        {**_LINEAR, "b_enc": "gate_bias", "b_dec": "decoder_bias", "r_mag": "r_mag", "b_mag": "mag_bias"},
        "gated",
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
    weights = read_checkpoint(directory / WEIGHTS)
    fields: dict[str, Any] = {
        field: weights[name].T.contiguous() if _LINEAR.get(field) == name else weights[name]
        for field, name in dictionary.tensors.items()
    }
    if dictionary.activation == "batch_topk":
        fields["threshold"] = _threshold_of_all(weights["threshold"], fields["b_enc"])
    if dictionary.activation == "topk":
        fields["k"] = whole_number(float(weights["k"]) if "k" in weights else trainer["k"], "k")
    sae = Sae(**fields, activation=dictionary.activation, apply_b_dec_to_input=dictionary.apply_b_dec_to_input)
    buffer: dict[str, Any] = config.get("buffer") or {}
    sites = _sites(trainer, buffer)
    return replace(
        sae.with_unit_decoder() if dictionary.unit_decoder else sae,
        layer=residual_layer(sites),
        sites=sites,
        training=TrainingConditions(model_name=trainer.get("lm_name"), context_size=buffer.get("ctx_len")),
    )


def _threshold_of_all(threshold: Tensor, like: Tensor) -> Tensor:
    """One threshold for all features; -1 until training has set it, which would make the SAE a plain ReLU."""
    if threshold < 0:
        raise SaeError("its threshold was never set", field="threshold", fix="train it longer, which sets it")
    return torch.full_like(like, float(threshold))


def _sites(trainer: dict[str, Any], buffer: dict[str, Any]) -> tuple[Site, ...]:
    """The trainer's layer says nothing of its part: SAEs of `mlp_out_layer_3` have it too, beside their names."""
    if buffer.get("io", "out") != "out":
        raise SaeError(f"it was trained on {buffer['io']!r} of its module", field="io", fix="use an SAE of its output")
    return (
        *sites_of_config(trainer, ("submodule_name",), ("layer",)),
        *sites_of_config(buffer, ("submodule",)),
    )


FORMAT = SaeFormat("dictionary_learning", (CONFIG, WEIGHTS), load, config_keys=("trainer",))
