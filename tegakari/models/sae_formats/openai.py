"""OpenAI's sparse_autoencoder: N.pt, a state dict; ReLU, or TopK of layer-normalized residuals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tegakari.models.sae import Sae
from tegakari.models.sae_formats.format import SaeFormat, read_checkpoint, transposed, whole_number
from tegakari.models.sae_site import AFTER, Site
from tegakari.schemas.errors import SaeError

_FILE = re.compile(r"^(\d+)\.pt$")
_OTHER_PLACE = re.compile(r"^(resid_delta_(attn|mlp)|resid_post_attn|mlp_post_act)(_|$)")
_RESIDUAL = re.compile(r"^resid_post_mlp(_|$)")
"""Names of the published directories, which say where the SAE sits; `resid_post_mlp` is the residual after a block."""


def load(file: Path) -> Sae:
    """Read an SAE: `a = act((x - pre_bias) W^T + latent_bias)`, for TopK of `x = layer_norm(h)`.

    Raises:
        SaeError: another activation function, or another place than the residual after a block.
    """
    names = file.absolute().parts[:-1]
    for name in names:
        if _OTHER_PLACE.search(name):
            raise SaeError(
                f"it was trained at {name!r}, which is not the residual after a block",
                field="saes.path",
                fix="use an SAE of resid_post_mlp",
            )
    state = read_checkpoint(file)
    activation = state.get("activation", "ReLU")
    if activation not in ("ReLU", "TopK"):
        raise SaeError(f"it uses {activation!r}", field="activation", fix="use a ReLU or TopK SAE")
    W_enc = transposed(state["encoder.weight"])
    layer = _FILE.search(file.name)
    assert layer is not None  # by the format's file_name
    return Sae(
        W_enc=W_enc,
        W_dec=transposed(state["decoder.weight"]) if "decoder.weight" in state else transposed(W_enc),
        b_enc=state["latent_bias"],
        b_dec=state["pre_bias"],
        apply_b_dec_to_input=True,
        layer=int(layer[1]),
        sites=(Site(f"file {file.name!r}", int(layer[1]), AFTER if any(map(_RESIDUAL.search, names)) else None),),
        **(_topk(state.get("activation_state_dict", {})) if activation == "TopK" else {}),
    )


def _topk(state: dict[str, Any]) -> dict[str, Any]:
    """Fields of `Sae` for a TopK, whose input the library always normalizes."""
    if state.get("postact_fn", "ReLU") != "ReLU":
        raise SaeError("its features have negative activations", field="postact_fn", fix="use a TopK SAE with ReLU")
    return {"activation": "topk", "k": whole_number(state["k"], "k"), "input_norm": "layer_norm"}


FORMAT = SaeFormat("OpenAI", (), load, _FILE)
