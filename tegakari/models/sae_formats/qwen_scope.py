"""Qwen Scope: one file layerN.sae.pt per layer, TopK; k is in the name of its repository, `SAE-Res-...-L0_50`."""

from __future__ import annotations

import re
from pathlib import Path

from tegakari.models.sae import Sae
from tegakari.models.sae_formats.format import SaeFormat, read_checkpoint, transposed
from tegakari.models.sae_site import AFTER, Site
from tegakari.schemas.errors import SaeError

_FILE = re.compile(r"^layer(\d+)\.sae\.pt$")
_K = re.compile(r"(?:^|[_-])L0_(\d+)(?=$|[_-])")


def load(file: Path) -> Sae:
    """Read an SAE: `a = topk(x W_enc^T + b_enc)`, b_dec not subtracted; negative values in the top k count as inactive.

    Raises:
        SaeError: no directory on its path names k.
    """
    weights = read_checkpoint(file)
    names = reversed(file.absolute().parts[:-1])
    k = next((int(found[1]) for name in names if (found := _K.search(name))), None)
    if k is None:
        raise SaeError(
            "its files do not hold k, and no directory on its path names it",
            field="k",
            fix="name its directory as its repository is named, such as SAE-Res-Qwen3-8B-Base-W64K-L0_50",
        )
    match = _FILE.search(file.name)
    assert match is not None  # by the format's file_name
    return Sae(
        W_enc=transposed(weights["W_enc"]),
        W_dec=transposed(weights["W_dec"]),
        b_enc=weights["b_enc"],
        b_dec=weights["b_dec"],
        activation="topk",
        k=k,
        layer=int(match[1]),
        sites=(Site(f"file {file.name!r}", int(match[1]), AFTER),),
    )


FORMAT = SaeFormat("Qwen Scope", (), load, _FILE)
