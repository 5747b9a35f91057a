"""Llama Scope (OpenMOSS): hyperparams.json beside checkpoints/final.safetensors; JumpReLU, or TopK before conversion.

The formula is that of lm-saes when it published them: `standardize_parameters_of_dataset_activation_scaling`, then
`transform_to_unit_decoder_norm`, then the threshold, which is in units of the residual. SAELens leaves out the second
step, so its activations differ where a decoder row's norm is not 1.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tegakari.models.sae import Sae
from tegakari.models.sae_formats.format import SaeFormat, read_json, read_safetensors, transposed, whole_number
from tegakari.models.sae_site import residual_layer, sites_of_config
from tegakari.schemas.errors import SaeError

CONFIG = "hyperparams.json"
WEIGHTS = "checkpoints/final.safetensors"


def load(directory: Path) -> Sae:
    """Read a residual SAE: `pre = ||d|| (x W + b / s)`, `a = pre where pre > threshold`, s = sqrt(d_model) / norm.

    d is the feature's decoder row, `norm` the mean norm of the residuals that the SAE was trained on.

    Raises:
        SaeError: a transcoder, an encoder with a gate, or another place than the residual after a block.
    """
    config = read_json(directory / CONFIG)
    refuse_transcoder(config)
    sites = sites_of_config(config, ("hook_point_in",))
    if config.get("use_glu_encoder"):
        raise SaeError("its encoder is multiplied by a gate", field="use_glu_encoder", fix="use an SAE without one")
    weights = read_safetensors(directory / WEIGHTS)
    scale = _scale(config)
    W_enc, b_enc = transposed(weights["encoder.weight"]), weights["encoder.bias"]
    threshold = config.get("jump_relu_threshold") or 0
    act_fn = str(config.get("act_fn", "jumprelu")).lower()
    if act_fn not in ("relu", "jumprelu", "topk"):
        raise SaeError(f"it is a {act_fn!r} SAE", field="act_fn", fix="use a jumprelu, topk or relu SAE")
    topk = act_fn == "topk" and not threshold  # lm-saes reads a TopK with a threshold as a JumpReLU
    sae = Sae(
        W_enc=W_enc,
        W_dec=transposed(weights["decoder.weight"]),
        b_enc=b_enc / scale,
        b_dec=weights["decoder.bias"] / scale if "decoder.bias" in weights else torch.zeros(len(W_enc)),
        activation="topk" if topk else "jumprelu",
        threshold=None if topk else torch.full_like(b_enc, 0 if act_fn == "relu" else threshold),
        k=whole_number(config["top_k"], "top_k") if topk else None,
        apply_b_dec_to_input=bool(config.get("apply_decoder_bias_to_pre_encoder")),
        layer=residual_layer(sites),
        sites=sites,
    )
    if config.get("sparsity_include_decoder_norm"):
        return replace(sae.with_unit_decoder(), threshold=sae.threshold)
    return sae


def refuse_transcoder(config: dict[str, Any]) -> None:
    """Refuse an SAE of OpenMOSS that predicts another activation than its input.

    Raises:
        SaeError: its two hooks differ.
    """
    if config.get("hook_point_out", config["hook_point_in"]) != config["hook_point_in"]:
        raise SaeError(
            f"it is a transcoder, from {config['hook_point_in']!r} to {config['hook_point_out']!r}",
            field="hook_point_out",
            fix="use an SAE whose hook_point_in is its hook_point_out",
        )


def _scale(config: dict[str, Any]) -> float:
    """s, the factor of residuals in training."""
    normalization = config.get("norm_activation", "dataset-wise")
    if normalization == "inference":
        return 1.0
    if normalization == "dataset-wise":
        return config["d_model"] ** 0.5 / config["dataset_average_activation_norm"]["in"]
    raise SaeError(
        f"it normalizes its input {normalization!r}", field="norm_activation", fix="use an SAE normalized dataset-wise"
    )


FORMAT = SaeFormat("Llama Scope", (CONFIG, WEIGHTS), load)
