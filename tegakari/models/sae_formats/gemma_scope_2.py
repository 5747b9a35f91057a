"""Gemma Scope 2: params.safetensors, JumpReLU, b_dec not subtracted; beside config.json, which a few SAEs lack."""

from __future__ import annotations

from pathlib import Path

from tegakari.models.sae import Sae, TrainingConditions
from tegakari.models.sae_formats.format import SaeFormat, read_json, read_safetensors
from tegakari.models.sae_site import residual_layer, sites_of_config
from tegakari.schemas.errors import SaeError

CONFIG = "config.json"
WEIGHTS = "params.safetensors"

_HOOK = "hf_hook_point_in"


def load(directory: Path) -> Sae:
    """Read a residual SAE: `pre = x w_enc + b_enc`, `a = relu(pre) * (pre > threshold)`.

    Raises:
        SaeError: a transcoder, or an SAE of another place than the residual after a block.
    """
    config = read_json(directory / CONFIG) if (directory / CONFIG).is_file() else {}
    architecture = config.get("architecture", "jump_relu")
    if architecture != "jump_relu":
        raise SaeError(f"it is a {architecture!r} SAE", field="architecture", fix="use a jump_relu SAE")
    sites = sites_of_config(config, (_HOOK,))
    weights = read_safetensors(directory / WEIGHTS)
    hook = config.get(_HOOK)
    other = config.get("hf_hook_point_out") or hook
    if other != hook or "affine_skip_connection" in weights or weights["w_dec"].ndim != 2:
        raise SaeError(
            f"it is a transcoder, from {hook!r} to {other!r}",
            field="hf_hook_point_out",
            fix="use an SAE of resid_post or resid_post_all",
        )
    return Sae(
        W_enc=weights["w_enc"],
        W_dec=weights["w_dec"],
        b_enc=weights["b_enc"],
        b_dec=weights["b_dec"],
        threshold=weights["threshold"],
        activation="jumprelu",
        layer=residual_layer(sites),
        sites=sites,
        training=TrainingConditions(model_name=config.get("model_name")),
    )


FORMAT = SaeFormat("Gemma Scope 2", (WEIGHTS,), load, config_keys=(_HOOK,))
