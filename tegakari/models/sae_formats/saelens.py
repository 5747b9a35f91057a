"""SAELens: cfg.json beside sae_weights.safetensors. The format that tegakari writes."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from tegakari.kernels import InputNorm
from tegakari.models.outliers import finite_limit
from tegakari.models.sae import Activation, Sae, TrainingConditions
from tegakari.models.sae_formats.format import SaeFormat, read_json, read_safetensors, whole_number
from tegakari.models.sae_site import Site, residual_layer, sites_of_config
from tegakari.schemas.errors import SaeError

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
SCALER = "activation_scaler.json"
WHITENING = "activation_whitening.safetensors"

LAYOUT = "6.54.12"
"""Version of SAELens whose layout is written. A configuration without a version is read as that of version 5."""

NO_PROCESSING = (3, 19, 2)
"""Version of SAELens since which training loads models without processing, unless its configuration asks for it, and
records what it asked for. Before, TransformerLens centred the weights that write to the residual."""

_NORMALIZATIONS: dict[InputNorm, str] = {
    "none": "none",
    "layer_norm": "layer_norm",
    "constant_norm": "constant_norm_rescale",
}

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
        SaeError: an architecture, normalisation or reshaping that cannot be reproduced, or another site than the
            residual after a block.
    """
    config = read_json(directory / CONFIG)
    metadata: dict[str, Any] = config.get("metadata") or config
    weights = read_safetensors(directory / WEIGHTS)
    if config.get("reshape_activations") not in (None, "none"):
        raise SaeError("it reshapes its input", field="reshape_activations", fix="use an SAE of a residual")
    sites = _sites(metadata)
    activation = _activation(config, metadata)
    b_enc = weights["b_gate" if activation == "gated" else "b_enc"]
    norm, scale = _normalization(config, directory)
    training = _training(metadata)
    sae = Sae(
        W_enc=weights["W_enc"],
        W_dec=_decoder(weights, config),
        b_enc=b_enc,
        b_dec=weights["b_dec"],
        activation=activation,
        threshold=_threshold(weights, b_enc),
        k=_k(config) if activation == "topk" else None,
        r_mag=weights.get("r_mag"),
        b_mag=weights.get("b_mag"),
        scale=scale,
        input_norm=norm,
        centred=_is_centred(metadata),
        apply_b_dec_to_input=bool(config.get("apply_b_dec_to_input", True)),
        layer=residual_layer(sites),
        sites=sites,
        training=training,
        doubts=_doubts(metadata),
        max_norm=_max_norm(metadata),
    )
    if config.get("rescale_acts_by_decoder_norm"):
        rescaled = sae.with_unit_decoder()
        # The threshold of a BatchTopK in training applies to activations that are already rescaled.
        sae = replace(rescaled, threshold=sae.threshold)
    if config.get("normalize_activations") == "covariance_whitening":
        return _with_whitening(sae, directory)
    return sae


def _sites(metadata: dict[str, Any]) -> tuple[Site, ...]:
    if metadata.get("hook_head_index", metadata.get("hook_point_head_index")) is not None:
        raise SaeError("it is of one attention head", field="hook_head_index", fix="use an SAE of a residual")
    hooks = ("hook_name", "hook_point", "hook_name_out", "hf_hook_name")
    return sites_of_config(metadata, hooks, ("hook_layer", "hook_point_layer"))


def _training(metadata: dict[str, Any]) -> TrainingConditions:
    if "trained_as" in metadata:  # by tegakari, on the classifier itself
        return TrainingConditions()
    return TrainingConditions(
        model_name=metadata.get("model_name") or None,
        prepend_bos=metadata.get("prepend_bos"),
        context_size=metadata.get("context_size"),
        centring_assumed=metadata.get("model_from_pretrained_kwargs") is None,
    )


def _doubts(metadata: dict[str, Any]) -> tuple[str, ...]:
    positions = metadata.get("seqpos_slice")
    if not positions or all(bound is None for bound in positions):
        return ()
    return (f"it was trained on the positions slice{tuple(positions)} of its documents alone",)


def _is_centred(metadata: dict[str, Any]) -> bool:
    """Whether the model was loaded with `center_writing_weights`, or by a version that did so unless it was told."""
    asked = metadata.get("model_from_pretrained_kwargs")
    if asked is not None:
        return bool(asked.get("center_writing_weights", False))
    if metadata.get("model_class_name", "HookedTransformer") != "HookedTransformer":
        return False
    if "hook_point" in metadata:  # before version 3
        return True
    version = metadata.get("sae_lens_training_version")
    return bool(version) and _version(str(version)) < NO_PROCESSING


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _decoder(weights: dict[str, Tensor], config: dict[str, Any]) -> Tensor:
    """Decoder with the factors of fine-tuned activations, of versions before 6, folded into its rows."""
    name = next((name for name in ("finetuning_scaling_factor", "scaling_factor") if name in weights), None)
    if name is None or bool((weights[name] == 1).all()):
        return weights["W_dec"]
    if not config.get("finetuning_scaling_factor"):
        raise SaeError(
            "factors of its activations are among its weights, but its configuration says it was not fine-tuned",
            field="finetuning_scaling_factor",
            fix="set it to true if the SAE was fine-tuned, or remove the factors from the weights",
        )
    return weights["W_dec"] * weights[name][:, None]


def _with_whitening(sae: Sae, directory: Path) -> Sae:
    """SAE of `z = (x - mean) M`, with both maps folded into its weights (`fold_activation_whitening`)."""
    if not (directory / WHITENING).is_file():
        raise SaeError(
            f"it whitens its input, and {WHITENING} is missing",
            field="normalize_activations",
            fix="copy that file, or save the SAE with SAELens' save_inference_model, which folds it",
        )
    whitening = read_safetensors(directory / WHITENING)
    mean, matrix, inverse = (whitening[name] for name in ("mean", "matrix", "inverse_matrix"))
    W_enc = matrix @ sae.W_enc
    b_enc, b_mag = sae.b_enc, sae.b_mag
    if not sae.apply_b_dec_to_input:
        shift = mean @ W_enc
        b_enc = b_enc - shift
        b_mag = b_mag if b_mag is None or sae.r_mag is None else b_mag - shift * sae.r_mag.exp()
    return replace(
        sae, W_enc=W_enc, b_enc=b_enc, b_mag=b_mag, W_dec=sae.W_dec @ inverse, b_dec=sae.b_dec @ inverse + mean
    )


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
    k = config.get("k") or (config.get("activation_fn_kwargs") or {}).get("k")
    return None if k is None else whole_number(k, "k")


def _threshold(weights: dict[str, Tensor], like: Tensor) -> Tensor | None:
    if "topk_threshold" in weights:
        return weights["topk_threshold"].expand_as(like)
    return weights.get("threshold")


def _normalization(config: dict[str, Any], directory: Path) -> tuple[InputNorm, float]:
    """Norm of each position and scale of all.

    The scale is folded into the weights of a finished SAE, and in a file of its own while the SAE is in training.
    """
    match config.get("normalize_activations"):
        case None | False | "none" | "covariance_whitening":
            return "none", 1.0
        case "layer_norm":
            return "layer_norm", 1.0
        case "constant_norm_rescale":
            return "constant_norm", 1.0
        case True | "expected_average_only_in":
            return "none", _scaling_factor(config, directory)
        case other:
            raise SaeError(
                f"it normalizes its input by {other!r}",
                field="normalize_activations",
                fix="fold the normalisation into the weights and save the SAE again",
            )


def _scaling_factor(config: dict[str, Any], directory: Path) -> float:
    factor = config.get("norm_scaling_factor")
    if (directory / SCALER).is_file():
        factor = read_json(directory / SCALER).get("scaling_factor")
    if not isinstance(factor, (int, float)) or not math.isfinite(factor) or factor <= 0:
        raise SaeError(
            "its input was scaled by sqrt(d_model) over the mean norm of the residuals, and its files do not have that "
            f"factor ({factor!r})",
            field="normalize_activations",
            fix=f'write {{"scaling_factor": ...}} to {SCALER} beside the SAE; for published SAEs it is the '
            "norm_scaling_factor in SAELens' pretrained_saes.yaml",
        )
    return float(factor)


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
        "normalize_activations": _NORMALIZATIONS[sae.input_norm],
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": LAYOUT,
            "sae_lens_training_version": None,
            "model_name": model_name,
            "hook_name": None if sae.layer is None else f"blocks.{sae.layer}.hook_resid_post",
            "hook_head_index": None,
            "prepend_bos": True,
            "trained_as": sae.activation,
            "model_from_pretrained_kwargs": {"center_writing_weights": sae.centred},
            **({} if sae.max_norm is None else {"max_norm": finite_limit(sae.max_norm)}),
        },
        **settings,
    }
    save_file(
        {name: tensor.detach().float().contiguous().cpu() for name, tensor in weights.items()}, directory / WEIGHTS
    )
    (directory / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")


FORMAT = SaeFormat("SAELens", (CONFIG, WEIGHTS), load)
