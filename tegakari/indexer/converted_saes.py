"""SAEs of files that tegakari does not know, read by a function of the user's and stored in SAELens' layout."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import cast

from tegakari.models.fingerprint import fingerprint
from tegakari.models.sae import Sae
from tegakari.models.sae_formats import save_sae
from tegakari.models.sae_formats.selection import select
from tegakari.models.sae_formats.sets import files_below, layer_of_names
from tegakari.schemas.config import SaesConfig
from tegakari.schemas.errors import ConfigError, SaeError
from tegakari.store.disk.durable import publish_directory, random_suffix

Converter = Callable[[Path], Sae | None]
"""Reads the SAE of a directory; None: it holds none."""

_FIELD = "saes.converter"


def convert(settings: SaesConfig) -> Path:
    """Convert the SAEs below a directory.

    Args:
        settings: `converter` is called with every directory below `path` that has files and that `select` permits.

    Returns:
        `<path>-converted/<hash of its SAEs>`: a run's SAEs stay where they are when a converter changes.

    Raises:
        ConfigError: the converter is not a function, or returns something else than an SAE.
        SaeError: no SAE, one without a layer, or two of a layer.
    """
    converter = _converter(settings.converter)
    source = Path(settings.path)
    if not source.is_dir():
        raise SaeError(f"no directory {source}", field="saes.path", fix="name the directory that the converter reads")
    saes = _read(converter, source, settings)
    target = source.with_name(f"{source.name}-converted")
    staged = target / f".{random_suffix()}.part"
    try:
        for layer, sae in sorted(saes.items()):
            save_sae(staged / f"layer_{layer:02d}", sae)
        converted = target / fingerprint(staged)[:16]
        if not converted.is_dir():
            publish_directory(staged, converted)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return converted


def _read(converter: Converter, source: Path, settings: SaesConfig) -> dict[int, Sae]:
    """The SAEs of a directory by layer."""
    layer_of = layer_of_names(source)
    directories = sorted({str(PurePosixPath(file).parent) for file in files_below(source)})
    saes: dict[int, Sae] = {}
    for name in select(directories, settings.select, layer_of):
        sae = converter(source / name)
        if sae is None:
            continue
        if not isinstance(sae, Sae):
            raise ConfigError(
                f"{settings.converter!r} returned a {type(sae).__name__} for {source / name}",
                field=_FIELD,
                fix="return a tegakari.models.sae.Sae, or None for a directory without one",
            )
        layer = sae.layer if sae.layer is not None else layer_of(name)
        if layer is None:
            raise SaeError(
                f"{settings.converter!r} gave the SAE of {source / name} no layer", field=_FIELD, fix="set Sae.layer"
            )
        if layer in saes:
            raise SaeError(
                f"{saes[layer].source} and {name} are both of layer {layer}",
                field="saes.select",
                fix="choose one of them with saes.select, or return None for the other",
            )
        saes[layer] = replace(sae, layer=layer, source=name)
    if not saes:
        raise SaeError(
            f"{settings.converter!r} found no SAE below {source}", field=_FIELD, fix="correct it, or saes.path"
        )
    return saes


def _converter(name: str) -> Converter:
    module, _, function = name.partition(":")
    try:
        converter = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{name!r} cannot be imported: {error}",
            field=_FIELD,
            fix='write "module:function", and install the module or set PYTHONPATH to its directory',
        ) from None
    if not callable(converter):
        raise ConfigError(f"{name!r} is not a function", field=_FIELD, fix='write "module:function"')
    return cast(Converter, converter)
