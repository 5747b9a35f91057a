"""sparsify (EleutherAI): cfg.json beside sae.safetensors; ReLU, then TopK."""

from __future__ import annotations

from pathlib import Path

from tegakari.models.sae import Sae
from tegakari.models.sae_formats.format import SaeFormat, read_json, read_safetensors, whole_number
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


def load(directory: Path) -> Sae:
    """Read a sparsify SAE: `a = topk(relu(W (x - b_dec) + b))`, `x_hat = a W_dec + b_dec`.

    Raises:
        SaeError: it is a transcoder, has a path around its features, or groups them.
    """
    config = read_json(directory / CONFIG)
    for field, reason in _NOT_AN_SAE.items():
        if config.get(field):
            raise SaeError(f"it {reason}", field=field, fix="use a sparse autoencoder of the residual")
    if config.get("activation", "topk") != "topk":
        raise SaeError(f"it uses {config['activation']!r}", field="activation", fix="use a topk SAE")
    weights = read_safetensors(directory / WEIGHTS)
    return Sae(
        W_enc=weights["encoder.weight"].T.contiguous(),
        W_dec=weights["W_dec"],
        b_enc=weights["encoder.bias"],
        b_dec=weights["b_dec"],
        activation="topk",
        k=whole_number(config["k"], "k"),
        apply_b_dec_to_input=True,
    )


FORMAT = SaeFormat("sparsify", (CONFIG, WEIGHTS), load)
