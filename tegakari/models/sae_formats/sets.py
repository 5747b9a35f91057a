"""The SAEs of a classifier: one per layer, found below a directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tegakari.models.sae import Sae
from tegakari.models.sae_formats.layer_names import layer_of_directory
from tegakari.models.sae_formats.registry import format_of, load_sae
from tegakari.schemas.errors import SaeError


class ModelShape(Protocol):
    """The part of a classifier that SAEs must fit."""

    @property
    def d_model(self) -> int: ...
    @property
    def layers(self) -> int: ...


def load_saes(path: Path) -> dict[int, Sae]:
    """Read all SAEs below a directory, by layer.

    The layer comes from the SAE's own configuration, or else from the nearest directory name that holds one.

    Raises:
        SaeError: no SAE, an SAE without a layer, or two for one layer.
    """
    if not path.is_dir():
        raise SaeError(f"no directory {path}", field="saes.path", fix="run `tegakari sae train` first")
    saes: dict[int, Sae] = {}
    directories: dict[int, Path] = {}
    for directory in sorted([path, *(entry for entry in path.rglob("*") if entry.is_dir())]):
        if format_of(directory) is None:
            continue
        sae = load_sae(directory)
        layer = sae.layer if sae.layer is not None else _layer_of_path(directory, path)
        if layer is None:
            raise SaeError(
                f"{directory} does not say which layer it is of", field="saes.path", fix="name its directory layer_NN"
            )
        if layer in saes:
            raise SaeError(
                f"{directories[layer]} and {directory} are both of layer {layer}", field="saes.path", fix="remove one"
            )
        saes[layer], directories[layer] = dataclasses.replace(sae, layer=layer), directory
    if not saes:
        raise SaeError(f"no SAE below {path}", field="saes.path", fix="run `tegakari sae train` first")
    return dict(sorted(saes.items()))


def _layer_of_path(directory: Path, root: Path) -> int | None:
    """Layer in the nearest name of a directory's path, up to the root's; None if no name holds one."""
    names = reversed([root.resolve().name, *directory.relative_to(root).parts])
    return next((layer for name in names if (layer := layer_of_directory(name)) is not None), None)


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
