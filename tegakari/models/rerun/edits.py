"""Edits that remove features from the rows of a residual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from itertools import chain
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tegakari.kernels import Encoder
from tegakari.kernels.input_norm import input_factors
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
    """error_preserving: `h' = h - n(h) sum_f a_f(h) W_dec[f] / s`, n the SAE's `token_sizes` or 1;
    reconstruction: `h' = decode(a with these at 0)`."""
    positions: Positions = "all"
    """all countable positions of a document, or the one that the head reads: all, if it reads several."""


class EditGroup(NamedTuple):
    """Edits of one layer at the same positions, each of another set of a pass."""

    layer: int
    positions: Positions
    edits: tuple[Edit, ...]
    sets: tuple[int, ...] | None
    """indices of their sets; None: one edit of every set, in order"""

    @property
    def width(self) -> int:
        """Columns of their features, see `GroupIndices`."""
        return _width(self.edits)

    @property
    def indices(self) -> list[int]:
        """Everything in which groups of one shape differ, as numbers; `group_indices` gives them back as tensors."""
        return [*(self.sets or ()), *chain.from_iterable(_padded_features(self.edits))]


class GroupIndices(NamedTuple):
    """Sets and features of a group's edits on the device of the pass."""

    sets: Tensor | slice
    """int64 [edits]; a slice: all"""
    features: Tensor
    """int64 [edits, width]; -1 behind the last feature of an edit"""


def group_indices(groups: Sequence[EditGroup], indices: Tensor) -> list[GroupIndices]:
    """Indices of groups, from their `EditGroup.indices` one after the other, int64 [n]. All are views of it."""
    sizes = [size for group in groups for size in (len(group.sets or ()), len(group.edits) * group.width)]
    parts = indices.split(sizes)
    return [
        GroupIndices(slice(None) if group.sets is None else sets, features.view(len(group.edits), group.width))
        for group, sets, features in zip(groups, parts[::2], parts[1::2], strict=True)
    ]


class EditedRows(NamedTuple):
    """Rows of a residual after an edit."""

    rows: Tensor
    """[..., T, d_model], dtype of the residual"""
    changed: Tensor
    """bool [..., T]: rows that the edit changes; the others are identical, bit for bit."""
    finite: Tensor
    """bool []: whether all activations that the edit computed are finite"""


def edited_rows(h: Tensor, sae: Sae, edit: Edit, dtype: torch.dtype) -> EditedRows:
    """Remove the features of an edit from rows of a residual; norm outliers, where no feature is active, stay.

    Args:
        h: [T, d_model], of the edit's layer; not modified.
        sae: of the layer.
        edit: the features, and how they are removed.
        dtype: float32 or bfloat16, in which the activations are computed; that of the index for equal activations.
    """
    if not is_separable(sae, edit.mode):
        return _from_all_features(h, sae, edit, dtype)
    features = torch.tensor(_padded_features([edit]), device=h.device)
    edited = remove_features(h[None], sae, features, dtype)
    return EditedRows(edited.rows[0], edited.changed[0], edited.finite)


def is_separable(sae: Sae, mode: Mode) -> bool:
    """Whether an edit needs the activations of its own features alone; TopK chooses among all features."""
    return mode == "error_preserving" and not sae.k


def remove_features(h: Tensor, sae: Sae, features: Tensor, dtype: torch.dtype) -> EditedRows:
    """Remove a set of features from each of several residuals, see `Edit.mode`.

    All sets together are two matrix products. Nothing depends on values that the host would have to read or to send,
    so that a recording of the operations holds for other features.

    Args:
        h: [sets, T, d_model], of the SAE's layer; not modified.
        sae: one that `is_separable` in mode error_preserving.
        features: int64 [sets, width], to remove from each residual; -1 is none.
        dtype: as of `edited_rows`.
    """
    sets, width = features.shape
    present = features >= 0
    columns = features.clamp_min(0).flatten()
    encoder = _encoder_of_features(sae, columns, dtype)

    def per_set(values: Tensor) -> Tensor:
        """[sets * width] -> [sets, 1, width]."""
        return values.view(sets, 1, width)

    weight = encoder.weight.view(-1, sets, width).transpose(0, 1)
    product = h.to(dtype).float() @ weight.float()
    factors = input_factors(h.flatten(0, 1), encoder)
    if factors is not None:
        product = product * factors.view(*h.shape[:2], 1)
    if encoder.gate_scale is not None and encoder.gate_bias is not None:
        a = product * per_set(encoder.gate_scale) + per_set(encoder.gate_bias)
        active = (product + per_set(encoder.bias) > 0) & (a > 0)
    else:
        a = product + per_set(encoder.bias)
        active = a > per_set(encoder.threshold)
    finite = a.isfinite().all()
    active &= present[:, None]
    ordinary = ordinary_positions(h.flatten(0, 1), sae.max_norm)
    if ordinary is not None:
        active &= ordinary.view(*h.shape[:2], 1)
    directions = (sae.W_dec[columns].float() / sae.scale).view(sets, width, -1)
    removed = torch.where(active, a, 0.0) @ directions
    sizes = sae.token_sizes(h.flatten(0, 1))
    if sizes is not None:
        removed = removed * sizes.view(*h.shape[:2], 1)
    return EditedRows(torch.sub(h, removed).to(h.dtype), active.any(2), finite)


def _width(edits: Sequence[Edit]) -> int:
    return max(1, *(len(edit.features) for edit in edits))


def _padded_features(edits: Sequence[Edit]) -> list[list[int]]:
    """Features of each edit, and -1 up to the width of all."""
    width = _width(edits)
    return [[*edit.features, *[-1] * (width - len(edit.features))] for edit in edits]


def _encoder_of_features(sae: Sae, features: Tensor, dtype: torch.dtype) -> Encoder:
    """Encoder of some features, int64 [K], which decides about each of them as the SAE's does."""

    def selected(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[features]

    part = copy(sae)  # a new Sae would look for NaN in its weights, and wait for a GPU
    for name, values in {
        "W_enc": sae.W_enc[:, features],
        "W_dec": sae.W_dec[features],
        "b_enc": sae.b_enc[features],
        "threshold": selected(sae.threshold),
        "r_mag": selected(sae.r_mag),
        "b_mag": selected(sae.b_mag),
    }.items():
        object.__setattr__(part, name, values)
    return part.encoder(dtype)


def _from_all_features(h: Tensor, sae: Sae, edit: Edit, dtype: torch.dtype) -> EditedRows:
    """Rows after an edit that needs all activations: a reconstruction, or one of a TopK SAE."""
    features = torch.tensor(edit.features, dtype=torch.int64, device=h.device)
    a = activations(h, sae.encoder(dtype))  # refuses activations that are not finite
    finite = torch.ones((), dtype=torch.bool, device=h.device)
    ordinary = ordinary_positions(h, sae.max_norm)
    if edit.mode == "reconstruction":
        decoded = sae.decode(a.index_fill_(1, features, 0), h).to(h.dtype)
        if ordinary is None:
            return EditedRows(decoded, torch.ones(len(h), dtype=torch.bool, device=h.device), finite)
        return EditedRows(torch.where(ordinary[:, None], decoded, h), ordinary, finite)
    a = a[:, features]
    sizes = sae.token_sizes(h)
    if sizes is not None:
        a = a * sizes[:, None]
    if ordinary is not None:
        a = a * ordinary[:, None]
    directions = sae.W_dec[features].float() / sae.scale
    return EditedRows((h.float() - a @ directions).to(h.dtype), (a != 0).any(1), finite)


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
