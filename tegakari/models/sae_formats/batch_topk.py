"""BatchTopK (Bussmann et al.): config.json beside sae.pt; ReLU, TopK and JumpReLU SAEs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tegakari.models.sae import Sae, TrainingConditions
from tegakari.models.sae_formats.format import SaeFormat, read_checkpoint, read_json, whole_number
from tegakari.models.sae_site import residual_layer, sites_of_config
from tegakari.schemas.errors import SaeError

CONFIG = "config.json"
WEIGHTS = "sae.pt"


def load(directory: Path) -> Sae:
    """Read an SAE of `sae_type` vanilla, topk or jumprelu.

    Vanilla: `a = relu((x - b_dec) W_enc + b_enc)`. TopK: the k largest of `relu((x - b_dec) W_enc)`, with b_enc if
    `use_encoder_bias` says so. JumpReLU: `pre = relu(x W_enc + b_enc)`, kept above `exp(log_threshold)`.

    Raises:
        SaeError: a BatchTopK, which has no threshold for a single position, or another activation.
    """
    config = read_json(directory / CONFIG)
    weights = read_checkpoint(directory / WEIGHTS)
    fields: dict[str, Any] = {name: weights[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    if config.get("activation", "relu") != "relu" or config.get("tied_weights"):
        raise SaeError("its features are not relu, or it has no decoder", field="activation", fix="use a relu SAE")
    match config["sae_type"]:
        case "vanilla":
            fields |= {"activation": "relu", "apply_b_dec_to_input": True}
        case "topk":
            bias = weights["b_enc"] if config.get("use_encoder_bias") else torch.zeros_like(weights["b_enc"])
            k = whole_number(config["top_k"], "top_k")
            fields |= {"activation": "topk", "apply_b_dec_to_input": True, "k": k, "b_enc": bias}
        case "jumprelu":
            fields |= {"activation": "jumprelu", "threshold": weights["jumprelu.log_threshold"].exp()}
        case other:
            raise SaeError(
                f"it is a {other!r}, which its library evaluates on batches alone",
                field="sae_type",
                fix="use a topk, vanilla or jumprelu SAE, or convert it with `saes.converter`",
            )
    if config.get("input_unit_norm"):
        fields["input_norm"] = "layer_norm"
    sites = sites_of_config(config, ("hook_point",))
    training = TrainingConditions(model_name=config.get("model_name"), context_size=config.get("seq_len"))
    return Sae(**fields, layer=residual_layer(sites), sites=sites, training=training)


FORMAT = SaeFormat("BatchTopK", (CONFIG, WEIGHTS), load, config_keys=("sae_type", "hook_point"))
