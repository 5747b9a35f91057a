"""SAELens: cfg.json beside sae_weights.safetensors. The format that tegakari writes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from tegakari.models.outliers import finite_limit
from tegakari.models.sae import Activation, Sae
from tegakari.models.sae_formats.format import SaeFormat, read_json, read_safetensors
from tegakari.models.sae_formats.layer_names import layer_of_hook
from tegakari.schemas.errors import SaeError

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
SCALER = "activation_scaler.json"

LAYOUT = "6.54.12"
"""Version of SAELens whose layout is written. A configuration without a version is read as that of version 5."""

_ACTIVATIONS: dict[str, Activation] = {
    "standard": "relu",
    "jumprelu": "jumprelu",
    "topk": "topk",
    "batchtopk": "batch_topk",
    "matryoshka_batchtopk": "batch_topk",
    "gated": "gated",
}


def load(directory: Path) -> Sae:
    """Read an SAE of SAELens 6, finished or in training, or of the flat configuration of earlier versions.

    Raises:
        SaeError: an architecture, normalisation or reshaping that cannot be reproduced, or another place than the
            residual after a block.
    """
    config = read_json(directory / CONFIG)
    metadata: dict[str, Any] = config.get("metadata") or config
    weights = read_safetensors(directory / WEIGHTS)
    if config.get("reshape_activations") not in (None, "none"):
        raise SaeError("it reshapes its input", field="reshape_activations", fix="use an SAE of a residual")
    activation = _activation(config, metadata)
    hook = metadata.get("hook_name") or metadata.get("hook_point")
    b_enc = weights["b_gate" if activation == "gated" else "b_enc"]
    W_dec = weights["W_dec"]
    if "scaling_factor" in weights:  # before version 6: factor of the activations in decode
        W_dec = W_dec * weights["scaling_factor"][:, None]
    sae = Sae(
        W_enc=weights["W_enc"],
        W_dec=W_dec,
        b_enc=b_enc,
        b_dec=weights["b_dec"],
        activation=activation,
        threshold=_threshold(weights, b_enc),
        k=_k(config) if activation == "topk" else None,
        r_mag=weights.get("r_mag"),
        b_mag=weights.get("b_mag"),
        scale=_scale(config, directory),
        apply_b_dec_to_input=bool(config.get("apply_b_dec_to_input", True)),
        layer=layer_of_hook(hook) if hook else None,
        max_norm=_max_norm(metadata),
    )
    if config.get("rescale_acts_by_decoder_norm"):
        rescaled = sae.with_unit_decoder()
        # The threshold of a BatchTopK in training applies to activations that are already rescaled.
        return replace(rescaled, threshold=sae.threshold)
    return sae


def _max_norm(metadata: dict[str, Any]) -> float | None:
    """Limit of norms that tegakari wrote; JSON has no infinity, which is null."""
    if "max_norm" not in metadata:
        return None
    return math.inf if metadata["max_norm"] is None else float(metadata["max_norm"])


def _activation(config: dict[str, Any], metadata: dict[str, Any]) -> Activation:
    architecture = str(config.get("architecture") or "standard")
    function = str(config.get("activation_fn_str") or config.get("activation_fn") or "relu")
    if architecture == "standard" and function == "topk":
        return "topk"  # before version 6, TopK was a standard SAE with another function
    if architecture == "jumprelu" and metadata.get("trained_as") == "batch_topk":
        return "batch_topk"
    activation = _ACTIVATIONS.get(architecture)
    if activation is None or function not in ("relu", "topk"):
        raise SaeError(
            f"it is a {architecture!r} SAE with {function}",
            field="architecture",
            fix=f"use one of: {', '.join(_ACTIVATIONS)}",
        )
    return activation


def _k(config: dict[str, Any]) -> int | None:
    return config.get("k") or (config.get("activation_fn_kwargs") or {}).get("k")


def _threshold(weights: dict[str, Tensor], like: Tensor) -> Tensor | None:
    if "topk_threshold" in weights:
        return weights["topk_threshold"].expand_as(like)
    return weights.get("threshold")


def _scale(config: dict[str, Any], directory: Path) -> float:
    """Input scale: folded into the weights of a finished SAE, in a file of its own while the SAE is in training."""
    normalization = config.get("normalize_activations")
    if normalization in (None, False, "none"):
        return 1.0
    if normalization in (True, "expected_average_only_in") and (directory / SCALER).is_file():
        return float(read_json(directory / SCALER)["scaling_factor"])
    raise SaeError(
        f"it normalizes its input by {normalization!r}",
        field="normalize_activations",
        fix="fold the normalisation into the weights with SAELens and save it again",
    )


def save_sae(directory: Path, sae: Sae, *, model_name: str = "") -> None:
    """Write an SAE in the format of SAELens 6, in float32. The input scale is folded into the weights.

    A batch_topk SAE is written as the JumpReLU that it is at inference, as SAELens itself does.

    Args:
        directory: created if missing.
        sae: on any device.
        model_name: name of the model it was trained on, for SAELens' metadata.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # s*h - b_dec = s * (h - b_dec/s): the same scale folds all three, b_dec subtracted from the input or not.
    weights = {
        "W_enc": sae.W_enc * sae.scale,
        "W_dec": sae.W_dec / sae.scale,
        "b_dec": sae.b_dec / sae.scale,
    }
    settings: dict[str, Any] = {}
    match sae.activation:
        case "relu":
            architecture = "standard"
        case "jumprelu" | "batch_topk":
            architecture = "jumprelu"
            assert sae.threshold is not None
            weights["threshold"] = sae.threshold
        case "topk":
            architecture = "topk"
            settings = {"k": sae.k, "rescale_acts_by_decoder_norm": False}
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
            "sae_lens_version": LAYOUT,
            "sae_lens_training_version": None,
            "model_name": model_name,
            "hook_name": None if sae.layer is None else f"blocks.{sae.layer}.hook_resid_post",
            "hook_head_index": None,
            "prepend_bos": True,
            "trained_as": sae.activation,
            **({} if sae.max_norm is None else {"max_norm": finite_limit(sae.max_norm)}),
        },
        **settings,
    }
    save_file(
        {name: tensor.detach().float().contiguous().cpu() for name, tensor in weights.items()}, directory / WEIGHTS
    )
    (directory / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")


FORMAT = SaeFormat("SAELens", (CONFIG, WEIGHTS), load)
