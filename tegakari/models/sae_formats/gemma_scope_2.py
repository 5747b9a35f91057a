"""Gemma Scope 2: params.safetensors, JumpReLU, b_dec not subtracted; beside config.json, which a few SAEs lack."""

from __future__ import annotations

from pathlib import Path

from tegakari.models.sae import Sae
from tegakari.models.sae_formats.format import SaeFormat, read_json, read_safetensors
from tegakari.models.sae_formats.layer_names import layer_of_hook
from tegakari.schemas.errors import SaeError

CONFIG = "config.json"
WEIGHTS = "params.safetensors"

_HOOK = "hf_hook_point_in"
_OUTPUT = ".output"
"""End of a hook's name that reads the output of a module, as of `model.layers.9.output`."""


def load(directory: Path) -> Sae:
    """Read a residual SAE: `pre = x w_enc + b_enc`, `a = relu(pre) * (pre > threshold)`.

    Raises:
        SaeError: a transcoder, or an SAE of another place than the residual after a block.
    """
    config = read_json(directory / CONFIG) if (directory / CONFIG).is_file() else {}
    architecture = config.get("architecture", "jump_relu")
    if architecture != "jump_relu":
        raise SaeError(f"it is a {architecture!r} SAE", field="architecture", fix="use a jump_relu SAE")
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
        layer=_layer(hook) if hook else None,
    )


def _layer(hook: str) -> int:
    """Layer of `model.layers.N.output`; `layer_of_hook` refuses any other module."""
    return layer_of_hook(hook.removesuffix(_OUTPUT) if hook.endswith(_OUTPUT) else hook.replace(".", "/"))


FORMAT = SaeFormat("Gemma Scope 2", (WEIGHTS,), load, config_keys=(_HOOK,))
