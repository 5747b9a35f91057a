"""Edits that remove features from the rows of a residual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tegakari.kernels.reference import activations
from tegakari.models.outliers import ordinary_positions
from tegakari.models.sae import Sae
from tegakari.schemas.errors import SaeError

Mode = Literal["error_preserving", "reconstruction"]
Positions = Literal["all", "head"]


class Edit(NamedTuple):
    """Features to remove from the residual of a layer."""

    layer: int
    features: tuple[int, ...]
    mode: Mode = "error_preserving"
    """error_preserving: `h' = h - sum_f a_f(h) W_dec[f] / s`; reconstruction: `h' = decode(a with these at 0)`."""
    positions: Positions = "all"
    """all countable positions of a document, or the one that the head reads: all, if it reads several."""


class EditedRows(NamedTuple):
    """Rows of a residual after an edit."""

    rows: Tensor
    """[T, d_model], dtype of the residual"""
    changed: Tensor
    """bool [T]: rows that the edit changes; the others are identical, bit for bit."""


def edited_rows(h: Tensor, sae: Sae, edit: Edit, dtype: torch.dtype) -> EditedRows:
    """Remove the features of an edit from rows of a residual; norm outliers, where no feature is active, stay.

    Args:
        h: [T, d_model], of the edit's layer; not modified.
        sae: of the layer.
        edit: the features, and how they are removed.
        dtype: float32 or bfloat16, in which the activations are computed; that of the index for equal activations.
    """
    features = torch.tensor(edit.features, dtype=torch.int64, device=h.device)
    encoded = sae if edit.mode == "reconstruction" or sae.k else _sae_of_features(sae, features)
    a = activations(h, encoded.encoder(dtype))
    ordinary = ordinary_positions(h, sae.max_norm)
    if edit.mode == "reconstruction":
        decoded = sae.decode(a.index_fill_(1, features, 0)).to(h.dtype)
        if ordinary is None:
            return EditedRows(decoded, torch.ones(len(h), dtype=torch.bool, device=h.device))
        return EditedRows(torch.where(ordinary[:, None], decoded, h), ordinary)
    if sae.k:  # TopK chooses among all features; every other kind decides about each feature alone
        a = a[:, features]
    if ordinary is not None:
        a = a * ordinary[:, None]
    directions = sae.W_dec[features].float() / sae.scale
    return EditedRows((h.float() - a @ directions).to(h.dtype), (a != 0).any(1))


def _sae_of_features(sae: Sae, features: Tensor) -> Sae:
    """SAE that consists of some of the features."""

    def selected(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[features]

    return Sae(
        W_enc=sae.W_enc[:, features],
        W_dec=sae.W_dec[features],
        b_enc=sae.b_enc[features],
        b_dec=sae.b_dec,
        activation=sae.activation,
        threshold=selected(sae.threshold),
        r_mag=selected(sae.r_mag),
        b_mag=selected(sae.b_mag),
        scale=sae.scale,
        apply_b_dec_to_input=sae.apply_b_dec_to_input,
    )


def check_edits(edits: Sequence[Edit], saes: Mapping[int, Sae]) -> None:
    """Refuse edits that the SAEs do not allow.

    Raises:
        SaeError: a layer without SAE, two edits of one layer, or a feature out of range.
    """
    layers = [edit.layer for edit in edits]
    for layer in layers:
        if layer not in saes:
            available = ", ".join(map(str, sorted(saes)))
            raise SaeError(f"layer {layer} has no SAE", field="layer", fix=f"use a layer with one: {available}")
    if len(set(layers)) < len(layers):
        raise SaeError(f"two edits of one layer in {layers}", field="layer", fix="join their features")
    for edit in edits:
        unknown = [feature for feature in edit.features if not 0 <= feature < saes[edit.layer].d_sae]
        if unknown:
            last = saes[edit.layer].d_sae - 1
            raise SaeError(f"layer {edit.layer} has features 0 to {last}, not {unknown[0]}", field="features")
