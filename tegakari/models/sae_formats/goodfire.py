"""Goodfire's SAEs (ReLU and TopK), and qresearch's of DeepSeek R1 (ReLU): one state dict, layer and k in its name."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from tegakari.models.sae import Sae
from tegakari.models.sae_formats.format import SaeFormat, read_checkpoint, transposed
from tegakari.models.sae_site import AFTER, Site

_FILE = re.compile(r"SAE[-_]l(\d+).*\.pth?$", re.IGNORECASE)
_K = re.compile(r"topk.*[-_]k(\d+)(?=[-_.])", re.IGNORECASE)


def load(file: Path) -> Sae:
    """Read an SAE: `a = relu(x W^T + b)`, of which a TopK keeps the k largest; the decoder's bias is not subtracted."""
    weights = read_checkpoint(file)
    encoder = "encoder_linear" if "encoder_linear.weight" in weights else "encoder"
    decoder = "decoder_linear" if "decoder_linear.weight" in weights else "decoder"
    W_enc = transposed(weights[f"{encoder}.weight"])
    k, layer = _K.search(file.name), _FILE.search(file.name)
    assert layer is not None  # by the format's file_name
    return Sae(
        W_enc=W_enc,
        W_dec=transposed(weights[f"{decoder}.weight"]),
        b_enc=weights.get(f"{encoder}.bias", torch.zeros(W_enc.shape[1])),
        b_dec=weights.get(f"{decoder}.bias", torch.zeros(W_enc.shape[0])),
        activation="topk" if k else "relu",
        k=int(k[1]) if k else None,
        layer=int(layer[1]),
        sites=(Site(f"file {file.name!r}", int(layer[1]), AFTER),),
    )


FORMAT = SaeFormat("Goodfire", (), load, _FILE)
