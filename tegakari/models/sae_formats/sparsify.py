"""sparsify (EleutherAI): cfg.json beside sae.safetensors; ReLU, then the k largest of a position."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file

from tegakari.models.sae import Sae
from tegakari.schemas.errors import SaeError

CONFIG = "cfg.json"
WEIGHTS = "sae.safetensors"


def matches(directory: Path) -> bool:
    return (directory / CONFIG).is_file() and (directory / WEIGHTS).is_file()


def load(directory: Path) -> Sae:
    """Read a sparsify SAE: `a = topk(relu(W (x - b_dec) + b))`, `x_hat = a W_dec + b_dec`.

    Raises:
        SaeError: it is a transcoder, has a skip connection, or groups its features.
    """
    config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    if config.get("transcode") or config.get("skip_connection"):
        raise SaeError(
            f"{directory.name} is a transcoder, which reconstructs another activation than its input",
            field="transcode",
            fix="use a sparse autoencoder of the residual",
        )
    if config.get("activation", "topk") != "topk":
        raise SaeError(f"{directory.name} uses {config['activation']!r}", field="activation", fix="use a topk SAE")
    weights = {name: tensor.float() for name, tensor in load_file(directory / WEIGHTS).items()}
    return Sae(
        W_enc=weights["encoder.weight"].T.contiguous(),
        W_dec=weights["W_dec"],
        b_enc=weights["encoder.bias"],
        b_dec=weights["b_dec"],
        activation="topk",
        k=config["k"],
        apply_b_dec_to_input=True,
    )
