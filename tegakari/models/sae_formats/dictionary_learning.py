"""dictionary_learning (saprmarks): ae.pt, read without unpickling code, beside config.json."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tegakari.models.sae import Sae
from tegakari.schemas.errors import SaeError

CONFIG = "config.json"
WEIGHTS = "ae.pt"


def matches(directory: Path) -> bool:
    return (directory / CONFIG).is_file() and (directory / WEIGHTS).is_file()


def load(directory: Path) -> Sae:
    """Read AutoEncoder, AutoEncoderTopK, BatchTopKSAE, JumpReluAutoEncoder or GatedAutoEncoder.

    Raises:
        SaeError: another class, or a file that would need code to be unpickled.
    """
    trainer: dict[str, Any] = json.loads((directory / CONFIG).read_text(encoding="utf-8"))["trainer"]
    try:
        state = torch.load(directory / WEIGHTS, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise SaeError(
            f"{directory / WEIGHTS} holds more than tensors", field=WEIGHTS, fix="save its state_dict() instead"
        ) from None
    weights: dict[str, Tensor] = {name: torch.as_tensor(value).float() for name, value in state.items()}
    layer = trainer.get("layer")
    read = _READERS.get(trainer.get("dict_class", ""))
    if read is None:
        raise SaeError(
            f"{directory.name} is a {trainer.get('dict_class')!r}",
            field="dict_class",
            fix=f"use one of: {', '.join(_READERS)}",
        )
    return Sae(**read(weights), layer=layer if isinstance(layer, int) else None)


def _linear(weights: dict[str, Tensor]) -> dict[str, Any]:
    """The layout of torch's Linear: [out, in]."""
    return {"W_enc": weights["encoder.weight"].T.contiguous(), "W_dec": weights["decoder.weight"].T.contiguous()}


def _standard(weights: dict[str, Tensor]) -> dict[str, Any]:
    return {
        **_linear(weights),
        "b_enc": weights["encoder.bias"],
        "b_dec": weights["bias"],
        "apply_b_dec_to_input": True,
    }


def _topk(weights: dict[str, Tensor]) -> dict[str, Any]:
    return {
        **_linear(weights),
        "b_enc": weights["encoder.bias"],
        "b_dec": weights["b_dec"],
        "apply_b_dec_to_input": True,
        "activation": "topk",
        "k": int(weights["k"]),
    }


def _batch_topk(weights: dict[str, Tensor]) -> dict[str, Any]:
    threshold = float(weights["threshold"])
    if threshold < 0:
        raise SaeError("its threshold was never set", field="threshold", fix="finish training, which sets it")
    read = _topk(weights)
    width = read["b_enc"].shape[0]
    return {**read, "activation": "batch_topk", "k": None, "threshold": torch.full((width,), threshold)}


def _jumprelu(weights: dict[str, Tensor]) -> dict[str, Any]:
    return {
        **{name: weights[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")},
        "activation": "jumprelu",
        "apply_b_dec_to_input": False,
    }


def _gated(weights: dict[str, Tensor]) -> dict[str, Any]:
    return {
        **_linear(weights),
        "b_enc": weights["gate_bias"],
        "b_dec": weights["decoder_bias"],
        "r_mag": weights["r_mag"],
        "b_mag": weights["mag_bias"],
        "activation": "gated",
        "apply_b_dec_to_input": True,
    }


_READERS = {
    "AutoEncoder": _standard,
    "AutoEncoderTopK": _topk,
    "BatchTopKSAE": _batch_topk,
    "JumpReluAutoEncoder": _jumprelu,
    "GatedAutoEncoder": _gated,
}
