"""The SAEs of a classifier: one per layer, found below a directory."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Protocol

from tegakari.models.file_sizes import MAX_ENTRIES
from tegakari.models.fingerprint import model_files
from tegakari.models.sae import Sae
from tegakari.models.sae_formats.layer_names import layer_of_directory
from tegakari.models.sae_formats.registry import formats_among, load_sae, refuse_incomplete
from tegakari.models.sae_formats.selection import LayerOf, select, several
from tegakari.schemas.errors import SaeError


class ModelShape(Protocol):
    """The part of a classifier that SAEs must fit."""

    @property
    def d_model(self) -> int: ...
    @property
    def layers(self) -> int: ...


def load_saes(path: Path, selector: str = "", layers: Sequence[int] = ()) -> dict[int, Sae]:
    """Read the SAEs below a directory, by layer.

    The layer comes from the SAE's own configuration, or else from the nearest directory name that holds one.

    Args:
        path: directory of the set, or of one SAE.
        selector: see `tegakari.models.sae_formats.selection`; empty: all SAEs.
        layers: layers to read; empty: all.

    Raises:
        SaeError: no SAE, an incomplete one, an SAE without a layer, two for one layer, or none for one of `layers`.
    """
    if not path.is_dir():
        raise SaeError(f"no directory {path}", field="saes.path", fix="run `tegakari sae train` first")
    files = files_below(path)
    names = chosen_names(files, path.resolve().name, selector, layers)
    refuse_incomplete(path, files, selector)
    saes: dict[int, Sae] = {}
    for name in names:
        sae = load_sae(path / name)
        layer = sae.layer if sae.layer is not None else layer_of_path(name, path.resolve().name)
        if layer is None:
            raise SaeError(
                f"{path / name} does not say which layer it is of",
                field="saes.path",
                fix="name its directory layer_NN",
            )
        if layer in saes:
            layer_of = layer_of_names(path.resolve().name)
            of_layer = [other for other in names if other in (name, saes[layer].source) or layer_of(other) == layer]
            raise several(layer, of_layer, names, layer_of)
        if not layers or layer in layers:
            saes[layer] = dataclasses.replace(sae, layer=layer, source=name)
    if not saes and not layers:
        raise SaeError(f"no SAE below {path}", field="saes.path", fix="run `tegakari sae train` first")
    if absent := sorted(set(layers) - saes.keys()):
        raise SaeError(
            f"no SAE of layer {', '.join(map(str, absent))} below {path}, which has layers "
            f"{', '.join(map(str, sorted(saes))) or 'of other numbers'}",
            field="saes.layers",
            fix="train or download the missing SAEs, or leave the layers out",
        )
    return dict(sorted(saes.items()))


def files_below(path: Path) -> list[str]:
    """Files below a directory, relative to it, sorted; directories that are links are followed once.

    Raises:
        SaeError: there are more than MAX_ENTRIES, as below the root of a file system.
    """
    files: list[str] = []
    visited: set[str] = set()
    for directory, directories, names in os.walk(path, followlinks=True):
        real = os.path.realpath(directory)
        if real in visited:
            directories.clear()
            continue
        visited.add(real)
        files += [(Path(directory) / name).relative_to(path).as_posix() for name in names]
        if len(files) + len(visited) > MAX_ENTRIES:
            raise SaeError(
                f"{path} has more than {MAX_ENTRIES:,} files", field="saes.path", fix="name the directory of one set"
            )
    return sorted(files)


def chosen_names(files: Sequence[str], root: str, selector: str, layers: Sequence[int]) -> list[str]:
    """Paths of the chosen SAEs among files, relative to the directory of the set.

    Args:
        files: paths relative to it.
        root: its name, which can hold a layer.
        selector: as of `load_saes`.
        layers: layers that are wanted, empty: all. SAEs whose path does not name a layer are kept.
    """
    layer_of = layer_of_names(root)
    names = select(list(formats_among(files)), selector, layer_of)
    return [name for name in names if not layers or (layer := layer_of(name)) is None or layer in layers]


def refuse_several(names: Sequence[str], root: str) -> None:
    """Refuse SAEs whose paths name one layer, before any of them is read or downloaded.

    Raises:
        SaeError: it lists selectors that choose one per layer.
    """
    layer_of = layer_of_names(root)
    by_layer: dict[int, list[str]] = {}
    for name in names:
        if (layer := layer_of(name)) is not None:
            by_layer.setdefault(layer, []).append(name)
    for layer, of_layer in sorted(by_layer.items()):
        if len(of_layer) > 1:
            raise several(layer, of_layer, names, layer_of)


def layer_of_path(name: str, root: str) -> int | None:
    """Layer in the nearest name of an SAE's path, up to the root's; None if no name holds one."""
    parts = reversed([root, *PurePosixPath(name).parts])
    return next((layer for part in parts if (layer := layer_of_directory(part)) is not None), None)


def layer_of_names(root: str) -> LayerOf:
    """The layers that the paths of SAEs name, for selectors.

    Args:
        root: name of the directory of the set.
    """

    @cache
    def layer_of(name: str) -> int | None:
        try:
            return layer_of_path(name, root)
        except SaeError:  # not of a residual: refused when it is read, which a selector can avoid
            return None

    return layer_of


def sae_files(path: Path, sources: Sequence[str]) -> list[Path]:
    """The files that decide what SAEs compute, sorted.

    Args:
        path: directory of the set.
        sources: paths of the SAEs, relative to it.
    """
    places = [path / source for source in sources]
    return sorted({file for place in places for file in (model_files(place) if place.is_dir() else [place])})


def check_fits(saes: Mapping[int, Sae], classifier: ModelShape) -> None:
    """Refuse SAEs that were trained on another model.

    Raises:
        SaeError: a layer that the classifier does not have, or another d_model.
    """
    for layer, sae in saes.items():
        if not 0 <= layer < classifier.layers:
            raise SaeError(
                f"an SAE of layer {layer}, but the classifier has layers 0 to {classifier.layers - 1}",
                field="saes.path",
                fix="use SAEs of this classifier, or choose its layers with `saes.layers`",
            )
        if sae.d_model != classifier.d_model:
            raise SaeError(
                f"the SAE of layer {layer} has d_in {sae.d_model}, the classifier's d_model is {classifier.d_model}",
                field="saes.path",
                fix="use SAEs of this classifier",
            )
