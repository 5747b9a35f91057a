"""SAELens: cfg.json beside sae_weights.safetensors. The format that tegakari writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from tegakari.models.sae import Activation, Sae
from tegakari.models.sae_formats.naming import layer_of_name
from tegakari.schemas.errors import SaeError

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"

_ACTIVATIONS: dict[str, Activation] = {
    "standard": "relu",
    "relu": "relu",
    "jumprelu": "jumprelu",
    "topk": "topk",
    "batchtopk": "batch_topk",
    "gated": "gated",
}


def matches(directory: Path) -> bool:
    return (directory / CONFIG).is_file() and (directory / WEIGHTS).is_file()


def load(directory: Path) -> Sae:
    """Read an SAE of SAELens 6, or of its flat configuration before.

    Raises:
        SaeError: an architecture, normalisation or reshaping that cannot be reproduced.
    """
    config: dict[str, Any] = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    weights = {name: tensor.float() for name, tensor in load_file(directory / WEIGHTS).items()}
    activation = _activation(config, directory)
    normalization = config.get("normalize_activations", "none")
    if normalization not in ("none", None):
        raise SaeError(
            f"{directory.name} normalizes its input by {normalization!r}",
            field="normalize_activations",
            fix="fold the normalisation into the weights with SAELens and save it again",
        )
    if config.get("reshape_activations", "none") not in ("none", None):
        raise SaeError(
            f"{directory.name} reshapes its input", field="reshape_activations", fix="use an SAE of a residual"
        )
    metadata = config.get("metadata") or config
    W_enc, W_dec, b_enc = weights["W_enc"], weights["W_dec"], weights.get("b_enc", weights.get("b_gate"))
    if b_enc is None:
        raise SaeError(f"{directory.name} has neither b_enc nor b_gate", field=WEIGHTS, fix="export the SAE again")
    if "scaling_factor" in weights and activation == "relu":
        W_dec = W_dec * weights["scaling_factor"][:, None]
    if config.get("rescale_acts_by_decoder_norm"):
        # Encode multiplies by the decoder's norms, decode divides by them.
        norms = W_dec.norm(dim=1)
        W_enc, b_enc, W_dec = W_enc * norms, b_enc * norms, W_dec / norms[:, None]
    return Sae(
        W_enc=W_enc,
        W_dec=W_dec,
        b_enc=b_enc,
        b_dec=weights["b_dec"],
        activation=activation,
        threshold=weights.get("threshold"),
        k=_k(config) if activation == "topk" else None,
        r_mag=weights.get("r_mag"),
        b_mag=weights.get("b_mag"),
        apply_b_dec_to_input=bool(config.get("apply_b_dec_to_input", True)),
        layer=layer_of_name(str(metadata.get("hook_name") or metadata.get("hook_point") or "")),
    )


def _activation(config: dict[str, Any], directory: Path) -> Activation:
    architecture = str(config.get("architecture", "standard"))
    if (
        architecture == "standard"
        and str(config.get("activation_fn_str", config.get("activation_fn", "relu"))) == "topk"
    ):
        return "topk"  # before version 6, TopK was a standard SAE with another activation
    known = _ACTIVATIONS.get(architecture)
    if known is None:
        raise SaeError(
            f"{directory.name} is a {architecture!r} SAE",
            field="architecture",
            fix=f"use one of: {', '.join(_ACTIVATIONS)}",
        )
    return known


def _k(config: dict[str, Any]) -> int | None:
    return config.get("k") or (config.get("activation_fn_kwargs") or {}).get("k")


def save_sae(directory: Path, sae: Sae, *, model_name: str = "") -> None:
    """Write an SAE as SAELens 6 reads it. The input scale is folded into the weights.

    A batch_topk SAE is written as the JumpReLU that it is at inference, as SAELens itself does.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # s*h - b_dec = s * (h - b_dec/s): the same scale folds all three, b_dec subtracted from the input or not.
    weights = {
        "W_enc": sae.W_enc * sae.scale,
        "W_dec": sae.W_dec / sae.scale,
        "b_dec": sae.b_dec / sae.scale,
    }
    extra: dict[str, Any] = {}
    match sae.activation:
        case "relu":
            architecture = "standard"
        case "jumprelu" | "batch_topk":
            architecture = "jumprelu"
            assert sae.threshold is not None
            weights["threshold"] = sae.threshold
        case "topk":
            architecture = "topk"
            extra = {"k": sae.k, "rescale_acts_by_decoder_norm": False}
        case "gated":
            architecture = "gated"
            assert sae.r_mag is not None
            assert sae.b_mag is not None
            weights |= {"r_mag": sae.r_mag, "b_mag": sae.b_mag}
    weights["b_gate" if sae.activation == "gated" else "b_enc"] = sae.b_enc
    config = {
        "architecture": architecture,
        "d_in": sae.d_model,
        "d_sae": sae.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "model_name": model_name,
            "hook_name": f"blocks.{sae.layer}.hook_resid_post",
            "hook_head_index": None,
            "prepend_bos": True,
        },
        **extra,
    }
    save_file(
        {name: tensor.detach().float().contiguous().cpu() for name, tensor in weights.items()}, directory / WEIGHTS
    )
    (directory / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
