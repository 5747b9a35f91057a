"""The SAEs of a classifier: one per layer, found below a directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tegakari.models.sae import Sae
from tegakari.models.sae_formats.registry import format_of, load_sae
from tegakari.models.sae_site import NO_PART, names_residual, residual_layer, sites_of_path
from tegakari.schemas.errors import SaeError


class ModelShape(Protocol):
    """The part of a classifier that SAEs must fit."""

    @property
    def d_model(self) -> int: ...
    @property
    def layers(self) -> int: ...


def load_saes(path: Path) -> dict[int, Sae]:
    """Read all SAEs below a directory, by layer.

    The layer comes from the SAE's own configuration and from the names of its directories, which have to agree.

    Raises:
        SaeError: no SAE, an SAE without a layer, one of another site than the residual, or two for one layer.
    """
    if not path.is_dir():
        raise SaeError(f"no directory {path}", field="saes.path", fix="run `tegakari sae train` first")
    saes: dict[int, Sae] = {}
    directories: dict[int, Path] = {}
    for directory in sorted([path, *(entry for entry in path.rglob("*") if entry.is_dir())]):
        if format_of(directory) is None:
            continue
        sae = load_sae(directory)
        sites = (*sae.sites, *sites_of_path(directory.relative_to(path), path))
        try:
            layer = residual_layer(sites)
        except SaeError as error:
            raise SaeError(f"{directory}: {error.message}", field=error.field, fix=error.fix) from None
        if layer is None:
            raise SaeError(
                f"{directory} does not say which layer it is of", field="saes.path", fix="name its directory layer_NN"
            )
        if layer in saes:
            raise SaeError(
                f"{directories[layer]} and {directory} are both of layer {layer}", field="saes.path", fix="remove one"
            )
        saes[layer], directories[layer] = dataclasses.replace(sae, layer=layer), directory
        if not names_residual(sites):
            saes[layer] = dataclasses.replace(saes[layer], doubts=(*sae.doubts, NO_PART))
    if not saes:
        raise SaeError(f"no SAE below {path}", field="saes.path", fix="run `tegakari sae train` first")
    return dict(sorted(saes.items()))


def check_fits(saes: Mapping[int, Sae], classifier: ModelShape) -> None:
    """Refuse SAEs that were trained on another model.

    Raises:
        SaeError: a layer that the classifier does not have, or another d_model.
    """
    for layer, sae in saes.items():
        if layer >= classifier.layers:
            raise SaeError(
                f"an SAE of layer {layer}, but the classifier has layers 0 to {classifier.layers - 1}",
                field="saes.path",
                fix="use SAEs of this classifier",
            )
        if sae.d_model != classifier.d_model:
            raise SaeError(
                f"the SAE of layer {layer} has d_in {sae.d_model}, the classifier's d_model is {classifier.d_model}",
                field="saes.path",
                fix="use SAEs of this classifier",
            )
