"""Find SAEs below a directory, whatever their format, and say which layer each is of."""

from __future__ import annotations

import dataclasses
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError

from tegakari.models.sae import Sae
from tegakari.models.sae_formats import dictionary_learning, gemma_scope, saelens, sparsify
from tegakari.models.sae_formats.naming import layer_of_directory
from tegakari.schemas.errors import SaeError

_FORMATS = (saelens, sparsify, dictionary_learning, gemma_scope)

_UNREADABLE = (
    OSError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    RuntimeError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    SafetensorError,
)
"""What the formats' libraries raise on files that are cut, damaged, or of another layout than their names promise."""


class Shaped(Protocol):
    """What SAEs must fit: a classifier."""

    @property
    def d_model(self) -> int: ...
    @property
    def layers(self) -> int: ...


def load_sae(directory: Path) -> Sae:
    """Read one SAE, float32 on the CPU.

    Raises:
        SaeError: no known format, damaged files, or weights that do not belong together.
    """
    for kind in _FORMATS:
        if kind.matches(directory):
            try:
                return kind.load(directory)
            except SaeError as error:
                raise SaeError(f"{directory}: {error.message}", field=error.field, fix=error.fix) from None
            except _UNREADABLE as error:
                reason = f"it has no {error}" if isinstance(error, KeyError) else error
                raise SaeError(
                    f"{directory} cannot be read: {reason}", field="saes.path", fix="export it again"
                ) from None
    raise SaeError(
        f"no SAE in {directory}",
        field="saes.path",
        fix="give SAELens', sparsify's, dictionary_learning's or Gemma Scope's files",
    )


def load_saes(path: Path) -> dict[int, Sae]:
    """Read every SAE below a directory, by layer.

    The layer comes from the SAE's own configuration, or else from the nearest directory name that holds one.

    Raises:
        SaeError: none found, an SAE without a layer, or two for one layer.
    """
    if not path.is_dir():
        raise SaeError(f"no directory {path}", field="saes.path", fix="run `tegakari sae train` first")
    found: dict[int, Sae] = {}
    places: dict[int, Path] = {}
    for directory in sorted([path, *(entry for entry in path.rglob("*") if entry.is_dir())]):
        if not any(kind.matches(directory) for kind in _FORMATS):
            continue
        sae = load_sae(directory)
        layer = sae.layer if sae.layer is not None else _layer_of_path(directory, path)
        if layer is None:
            raise SaeError(
                f"{directory} does not say which layer it is of", field="saes.path", fix="name its directory layer_NN"
            )
        if layer in found:
            raise SaeError(
                f"{places[layer]} and {directory} are both of layer {layer}", field="saes.path", fix="remove one"
            )
        found[layer], places[layer] = dataclasses.replace(sae, layer=layer), directory
    if not found:
        raise SaeError(f"no SAE below {path}", field="saes.path", fix="run `tegakari sae train` first")
    return dict(sorted(found.items()))


def _layer_of_path(directory: Path, root: Path) -> int | None:
    names = reversed([root.resolve().name, *directory.relative_to(root).parts])
    return next((layer for name in names if (layer := layer_of_directory(name)) is not None), None)


def check_fits(saes: Mapping[int, Sae], classifier: Shaped) -> None:
    """Refuse SAEs that were trained on another model.

    Raises:
        SaeError: with both numbers.
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
