"""lm-saes 1 and Llamascopium (OpenMOSS), as of Llama Scope R1: config.json beside sae_weights.safetensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tegakari.models.sae import Activation, Sae
from tegakari.models.sae_formats.format import SaeFormat, read_json, read_safetensors, transposed, whole_number
from tegakari.models.sae_formats.llama_scope import refuse_transcoder
from tegakari.models.sae_site import residual_layer, sites_of_config
from tegakari.schemas.errors import SaeError

CONFIG = "config.json"
WEIGHTS = "sae_weights.safetensors"

_LINEAR = {"W_E": "encoder.weight", "b_E": "encoder.bias", "W_D": "decoder.weight", "b_D": "decoder.bias"}
"""name of a weight in Llamascopium -> its name in lm-saes 1, where matrices are those of torch's Linear"""
_ACTIVATIONS: dict[str, Activation] = {"relu": "relu", "jumprelu": "jumprelu", "topk": "topk"}


def load(directory: Path) -> Sae:
    """Read an SAE: `pre = s x W_E + b_E`, `a = pre` where the activation function passes `||d|| pre`.

    d is the feature's decoder row, and 1 stands for its norm without `sparsity_include_decoder_norm`. TopK chooses by
    `||d|| pre`, which is also its activation here, with a decoder row of norm 1.

    Raises:
        SaeError: not an SAE of the residual after a block, or an activation function or normalisation that depends on
            the batch.
    """
    config = read_json(directory / CONFIG)
    if config.get("sae_type", "sae") != "sae" or config.get("use_glu_encoder"):
        kind = "an SAE with a gated encoder" if config.get("use_glu_encoder") else f"a {config['sae_type']!r}"
        raise SaeError(f"it is {kind}", field="sae_type", fix="use a plain SAE of the residual")
    refuse_transcoder(config)
    sites = sites_of_config(config, ("hook_point_in",))
    activation = _ACTIVATIONS.get(str(config.get("act_fn", "relu")).lower())
    if activation is None:
        raise SaeError(
            f"it uses {config['act_fn']!r}, which depends on the batch",
            field="act_fn",
            fix="convert it to a jumprelu SAE with its library",
        )
    stored = read_safetensors(directory / WEIGHTS)
    weights = _weights(stored)
    sae = Sae(
        W_enc=weights["W_E"],
        W_dec=weights["W_D"],
        b_enc=weights["b_E"],
        b_dec=weights.get("b_D", torch.zeros(len(weights["W_E"]))),
        activation=activation,
        threshold=_threshold(stored) if activation == "jumprelu" else None,
        k=whole_number(config["top_k"], "top_k") if activation == "topk" else None,
        apply_b_dec_to_input=bool(config.get("apply_decoder_bias_to_pre_encoder")),
        layer=residual_layer(sites),
        sites=sites,
        **_normalization(config, stored),
    )
    if not config.get("sparsity_include_decoder_norm", True):
        return sae
    if activation == "topk":
        return sae.with_unit_decoder()
    if sae.threshold is not None:
        return replace(sae, threshold=sae.threshold / sae.W_dec.norm(dim=1))
    return sae


def _weights(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by their names in Llamascopium."""
    if "W_E" in stored:
        return stored
    return {
        name: transposed(stored[former]) if stored[former].ndim == 2 else stored[former]
        for name, former in _LINEAR.items()
        if former in stored
    }


def _threshold(stored: dict[str, Tensor]) -> Tensor:
    former, current = "log_jumprelu_threshold", "activation_function.log_jumprelu_threshold"
    return stored[current if current in stored else former].exp()


def _normalization(config: dict[str, Any], stored: dict[str, Tensor]) -> dict[str, Any]:
    """Fields of `Sae` for the factor of its input, which makes norms sqrt(d_model)."""
    normalization = config.get("norm_activation", "dataset-wise")
    match normalization:
        case "inference":
            return {}
        case "token-wise":
            return {"input_norm": "constant_norm"}
        case "dataset-wise":
            hook = config["hook_point_in"]
            norms = config.get("dataset_average_activation_norm") or {}
            keys = (f"dataset_average_activation_norm.{hook}", "dataset_average_activation_norm.in")
            norm = next((float(stored[key]) for key in keys if key in stored), norms.get(hook, norms.get("in")))
            if not norm or norm < 0:
                raise SaeError(
                    f"its mean activation norm at {hook!r} is {norm}",
                    field="dataset_average_activation_norm",
                    fix="save it again with the norm of the activations that it was trained on",
                )
            return {"scale": config["d_model"] ** 0.5 / norm}
    raise SaeError(
        f"it normalizes its input {normalization!r}, which depends on the batch",
        field="norm_activation",
        fix="use an SAE normalized dataset-wise or token-wise",
    )


FORMAT = SaeFormat("Llamascopium", (CONFIG, WEIGHTS), load, config_keys=("hook_point_in",))
