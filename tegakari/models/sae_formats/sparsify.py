"""sparsify (EleutherAI): cfg.json beside sae.safetensors; ReLU, then the k largest of a position."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file

from tegakari.models.sae import Sae
from tegakari.schemas.errors import SaeError

CONFIG = "cfg.json"
WEIGHTS = "sae.safetensors"

_NOT_AN_SAE = {
    "transcode": "is a transcoder, which predicts another activation than its input",
    "skip_connection": "has a linear path around its features",
    "embed_skip": "has a linear path from the embedding",
    "gram_lookup": "subtracts a table of n-grams from its input",
    "signed": "has features with negative activations",
}


def matches(directory: Path) -> bool:
    return (directory / CONFIG).is_file() and (directory / WEIGHTS).is_file()


def load(directory: Path) -> Sae:
    """Read a sparsify SAE: `a = topk(relu(W (x - b_dec) + b))`, `x_hat = a W_dec + b_dec`.

    Raises:
        SaeError: it is a transcoder, has a path around its features, or groups them.
    """
    config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    for field, what in _NOT_AN_SAE.items():
        if config.get(field):
            raise SaeError(f"it {what}", field=field, fix="use a sparse autoencoder of the residual")
    if config.get("activation", "topk") != "topk":
        raise SaeError(f"it uses {config['activation']!r}", field="activation", fix="use a topk SAE")
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
