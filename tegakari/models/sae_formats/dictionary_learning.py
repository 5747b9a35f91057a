"""dictionary_learning (saprmarks): ae.pt, read without unpickling code, beside config.json."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tegakari.models.sae import Sae
from tegakari.models.sae_formats.naming import layer_of_hook
from tegakari.schemas.errors import SaeError

CONFIG = "config.json"
WEIGHTS = "ae.pt"

Weights = dict[str, Tensor]


def matches(directory: Path) -> bool:
    return (directory / CONFIG).is_file() and (directory / WEIGHTS).is_file()


def load(directory: Path) -> Sae:
    """Read an SAE of one of the classes in `_READERS`, with the activations that its own `encode` gives.

    Raises:
        SaeError: another class, another place than the residual, or a file that would need code to be unpickled.
    """
    config: dict[str, Any] = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    trainer: dict[str, Any] = config["trainer"]
    read = _READERS.get(trainer.get("dict_class", ""))
    if read is None:
        raise SaeError(
            f"it is a {trainer.get('dict_class')!r}", field="dict_class", fix=f"use one of: {', '.join(_READERS)}"
        )
    try:
        state = torch.load(directory / WEIGHTS, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise SaeError("it holds more than tensors", field=WEIGHTS, fix="save its state_dict() instead") from None
    weights = {name: torch.as_tensor(value).float() for name, value in state.items()}
    return replace(read(weights, trainer), layer=_layer(trainer, config.get("buffer") or {}))


def _layer(trainer: dict[str, Any], buffer: dict[str, Any]) -> int | None:
    if buffer.get("io", "out") != "out":
        raise SaeError(f"it was trained on {buffer['io']!r} of its module", field="io", fix="use an SAE of its output")
    if submodule := trainer.get("submodule_name"):
        return layer_of_hook(submodule)
    layer = trainer.get("layer")
    return layer if isinstance(layer, int) else None


def _encoder(weights: Weights) -> Tensor:
    return weights["encoder.weight"].T.contiguous()  # torch's Linear: [out, in]


def _decoder(weights: Weights) -> Tensor:
    return weights["decoder.weight"].T.contiguous()


def _standard(weights: Weights, _trainer: dict[str, Any]) -> Sae:
    return Sae(
        _encoder(weights), _decoder(weights), weights["encoder.bias"], weights["bias"], apply_b_dec_to_input=True
    )


def _standard_new(weights: Weights, _trainer: dict[str, Any]) -> Sae:
    return Sae(_encoder(weights), _decoder(weights), weights["encoder.bias"], weights["decoder.bias"])


def _topk(weights: Weights, trainer: dict[str, Any]) -> Sae:
    return Sae(
        _encoder(weights),
        _decoder(weights),
        weights["encoder.bias"],
        weights["b_dec"],
        activation="topk",
        k=int(weights["k"]) if "k" in weights else trainer["k"],
        apply_b_dec_to_input=True,
    )


def _batch_topk(weights: Weights, _trainer: dict[str, Any]) -> Sae:
    return Sae(
        _encoder(weights),
        _decoder(weights),
        weights["encoder.bias"],
        weights["b_dec"],
        activation="batch_topk",
        threshold=_threshold_of_all(weights, weights["encoder.bias"]),
        apply_b_dec_to_input=True,
    )


def _matryoshka(weights: Weights, _trainer: dict[str, Any]) -> Sae:
    return Sae(
        weights["W_enc"],
        weights["W_dec"],
        weights["b_enc"],
        weights["b_dec"],
        activation="batch_topk",
        threshold=_threshold_of_all(weights, weights["b_enc"]),
        apply_b_dec_to_input=True,
    )


def _threshold_of_all(weights: Weights, like: Tensor) -> Tensor:
    """One threshold for all features; -1 until training has set it, which would make the SAE a plain ReLU."""
    threshold = float(weights["threshold"])
    if threshold < 0:
        raise SaeError("its threshold was never set", field="threshold", fix="train it longer, which sets it")
    return torch.full_like(like, threshold)


def _jumprelu(weights: Weights, _trainer: dict[str, Any]) -> Sae:
    return Sae(
        weights["W_enc"],
        weights["W_dec"],
        weights["b_enc"],
        weights["b_dec"],
        activation="jumprelu",
        threshold=weights["threshold"],
    ).with_unit_decoder()


def _gated(weights: Weights, _trainer: dict[str, Any]) -> Sae:
    return Sae(
        _encoder(weights),
        _decoder(weights),
        weights["gate_bias"],
        weights["decoder_bias"],
        activation="gated",
        r_mag=weights["r_mag"],
        b_mag=weights["mag_bias"],
        apply_b_dec_to_input=True,
    ).with_unit_decoder()


_READERS: dict[str, Callable[[Weights, dict[str, Any]], Sae]] = {
    "AutoEncoder": _standard,
    "AutoEncoderNew": _standard_new,
    "AutoEncoderTopK": _topk,
    "BatchTopKSAE": _batch_topk,
    "MatryoshkaBatchTopKSAE": _matryoshka,
    "JumpReluAutoEncoder": _jumprelu,
    "GatedAutoEncoder": _gated,
}
