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
from tegakari.models.sae_formats.registry import formats_among, load_sae, refuse_incomplete
from tegakari.models.sae_formats.selection import LayerOf, choices, listed, select, several
from tegakari.models.sae_site import NO_PART, names_residual, residual_layer, sites_of_path
from tegakari.schemas.errors import SaeError


class ModelShape(Protocol):
    """The part of a classifier that SAEs must fit."""

    @property
    def d_model(self) -> int: ...
    @property
    def layers(self) -> int: ...


def load_saes(path: Path, selector: str = "", layers: Sequence[int] = ()) -> dict[int, Sae]:
    """Read the SAEs below a directory, by layer.

    The layer comes from the SAE's own configuration and from the names of its directories, which have to agree.

    Args:
        path: directory of the set, or of one SAE.
        selector: see `tegakari.models.sae_formats.selection`; empty: all SAEs.
        layers: layers to read; empty: all.

    Raises:
        SaeError: no SAE, an incomplete one, an SAE without a layer, one of another site than the residual, two for one
            layer, or none for one of `layers`.
    """
    if not path.is_dir():
        raise SaeError(f"no directory {path}", field="saes.path", fix="run `tegakari sae train` first")
    files = files_below(path)
    names = chosen_names(files, path, selector, layers)
    refuse_incomplete(path, files, selector)
    saes: dict[int, Sae] = {}
    for name in names:
        sae = _with_layer(load_sae(path / name), name, path)
        assert sae.layer is not None
        if sae.layer in saes:
            raise several(sae.layer, [saes[sae.layer].source, name], names, layer_of_names(path))
        if not layers or sae.layer in layers:
            saes[sae.layer] = sae
    if not saes and not layers:
        raise SaeError(f"no SAE below {path}", field="saes.path", fix="run `tegakari sae train` first")
    if absent := sorted(set(layers) - saes.keys()):
        available = {*saes, *filter(lambda layer: layer is not None, map(layer_of_names(path), formats_among(files)))}
        raise SaeError(
            f"no SAE of layer {', '.join(map(str, absent))} below {path}, which has layers "
            f"{', '.join(map(str, sorted(available))) or 'of no number'}",
            field="saes.layers",
            fix="train or download the missing SAEs, or leave those layers out",
        )
    return dict(sorted(saes.items()))


def _with_layer(sae: Sae, name: str, root: Path) -> Sae:
    """The SAE with the layer that its files and its path name, and with its path."""
    sites = (*sae.sites, *sites_of_path(PurePosixPath(name), root))
    try:
        layer = residual_layer(sites)
    except SaeError as error:
        raise SaeError(f"{root / name}: {error.message}", field=error.field, fix=error.fix) from None
    layer = sae.layer if layer is None else layer
    if layer is None:
        raise SaeError(
            f"{root / name} does not say which layer it is of", field="saes.path", fix="name its directory layer_NN"
        )
    doubts = sae.doubts if names_residual(sites) else (*sae.doubts, NO_PART)
    return dataclasses.replace(sae, layer=layer, source=name, doubts=doubts)


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


def chosen_names(files: Sequence[str], root: Path, selector: str, layers: Sequence[int]) -> list[str]:
    """Paths of the chosen SAEs among files, before any of them is read or downloaded.

    Args:
        files: paths relative to the directory of the set.
        root: that directory, whose name can say what it holds.
        selector: as of `load_saes`.
        layers: layers that are wanted, empty: all. SAEs whose path does not name a layer are kept.

    Raises:
        SaeError: a term of the selector matches nothing; or by their paths some of the SAEs are of one layer, or not of
            the residual. It lists selectors that can be pasted.
    """
    layer_of = layer_of_names(root)
    every = list(formats_among(files))
    names = [
        name
        for name in select(every, selector, layer_of)
        if not layers or (layer := layer_of(name)) is None or layer in layers
    ]
    _refuse_other_sites(names, every, root)
    by_layer: dict[int, list[str]] = {}
    for name in names:
        if (layer := layer_of(name)) is not None:
            by_layer.setdefault(layer, []).append(name)
    for layer, of_layer in sorted(by_layer.items()):
        if len(of_layer) > 1:
            raise several(layer, of_layer, names, layer_of)
    return names


def _refuse_other_sites(names: Sequence[str], every: Sequence[str], root: Path) -> None:
    for name in names:
        try:
            residual_layer(sites_of_path(PurePosixPath(name), root))
        except SaeError as error:
            residual = [other for other in every if names_residual(sites_of_path(PurePosixPath(other), root))]
            fix = f"choose SAEs of the residual:\n{listed(choices(residual, layer_of_names(root)))}"
            raise SaeError(
                f"{root / name}: {error.message}", field=error.field, fix=fix if residual else error.fix
            ) from None


def layer_of_names(root: Path) -> LayerOf:
    """The layers that the paths of SAEs name, for selectors.

    Args:
        root: directory of the set.
    """

    @cache
    def layer_of(name: str) -> int | None:
        try:
            return residual_layer(sites_of_path(PurePosixPath(name), root))
        except SaeError:  # not of the residual: refused if it is chosen
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
