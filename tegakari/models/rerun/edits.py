"""Features taken out of a residual: what an edit is, and what it makes of the residual's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tegakari.kernels.reference import activations
from tegakari.models.sae import Sae
from tegakari.schemas.errors import SaeError

Mode = Literal["error_preserving", "reconstruction"]
Positions = Literal["all", "last"]


class Edit(NamedTuple):
    """Features taken out of the residual of a layer."""

    layer: int
    features: tuple[int, ...]
    mode: Mode = "error_preserving"
    """error_preserving: `h' = h - sum_f a_f(h) W_dec[f] / s`; reconstruction: `h' = decode(a with these at 0)`."""
    positions: Positions = "all"
    """all non-special positions of a document, or its last one."""


class Edited(NamedTuple):
    """Rows of a residual after an edit."""

    rows: Tensor
    """[T, d_model], dtype of the residual"""
    changed: Tensor
    """bool [T]: rows that the edit reaches; the others are what they were, bit for bit."""


def edited_rows(h: Tensor, sae: Sae, edit: Edit, dtype: torch.dtype) -> Edited:
    """Make an edit in rows of a residual.

    Args:
        h: [T, d_model], of the edit's layer; it stays as it is.
        sae: of the layer.
        edit: what is taken out.
        dtype: what activations are computed in, as the index computed them.
    """
    features = torch.tensor(edit.features, dtype=torch.int64, device=h.device)
    encoder = sae.encoder(dtype) if edit.mode == "reconstruction" or sae.k else _columns(sae, features).encoder(dtype)
    a = activations(h, encoder)
    if edit.mode == "reconstruction":
        decoded = sae.decode(a.index_fill_(1, features, 0)).to(h.dtype)
        return Edited(decoded, torch.ones(len(h), dtype=torch.bool, device=h.device))
    if sae.k:  # TopK chooses among all features; every other kind decides about each feature alone
        a = a[:, features]
    directions = sae.W_dec[features].float() / sae.scale
    return Edited((h.float() - a @ directions).to(h.dtype), (a != 0).any(1))


def _columns(sae: Sae, features: Tensor) -> Sae:
    """The SAE of some of the features alone."""

    def chosen(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[features]

    return Sae(
        W_enc=sae.W_enc[:, features],
        W_dec=sae.W_dec[features],
        b_enc=sae.b_enc[features],
        b_dec=sae.b_dec,
        activation=sae.activation,
        threshold=chosen(sae.threshold),
        r_mag=chosen(sae.r_mag),
        b_mag=chosen(sae.b_mag),
        scale=sae.scale,
        apply_b_dec_to_input=sae.apply_b_dec_to_input,
    )


def check_edits(edits: Sequence[Edit], saes: Mapping[int, Sae]) -> None:
    """Refuse edits that cannot be made.

    Raises:
        SaeError: a layer without SAE, two edits of one layer, or a feature out of range.
    """
    layers = [edit.layer for edit in edits]
    for layer in layers:
        if layer not in saes:
            there = ", ".join(map(str, sorted(saes)))
            raise SaeError(f"layer {layer} has no SAE", field="layer", fix=f"layers with one: {there}")
    if len(set(layers)) < len(layers):
        raise SaeError(f"two edits of one layer in {layers}", field="layer", fix="join their features")
    for edit in edits:
        wrong = [feature for feature in edit.features if not 0 <= feature < saes[edit.layer].d_sae]
        if wrong:
            last = saes[edit.layer].d_sae - 1
            raise SaeError(f"layer {edit.layer} has features 0 to {last}, not {wrong[0]}", field="features")
