"""Load `tegakari.toml`: errors name key, value and fix; relative paths are resolved from the file's directory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from tegakari.schemas.config.schema import Config
from tegakari.schemas.errors import ConfigError

_PATH_KEYS = {
    "corpus": ("source", "path"),
    "classifier": ("path",),
    "saes": ("path",),
    "index": ("store",),
    "service": ("keys",),
}


REMOTE_SCHEMES = ("hf://", "saelens://")
"""Beginnings of paths of models that are downloaded."""


def is_remote(path: str) -> bool:
    """Whether a path of a configuration names a repository instead of a directory."""
    return path.startswith(REMOTE_SCHEMES)


def load_config(path: Path) -> Config:
    """Load and validate a configuration file; relative paths in it are resolved from the file's directory.

    `classifier.base` can be a hub id: it is resolved only if a directory of that name exists.

    Raises:
        ConfigError: the file is missing, is not TOML, or a key or value in it is wrong.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"no configuration file at {path}", field="--config", fix="write one with `tegakari init`"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", field="--config") from None
    try:
        config = msgspec.toml.decode(text, type=Config)
    except msgspec.ValidationError as error:
        raise _explain(error, text, path) from None
    except RecursionError:
        raise ConfigError(f"{path} is not valid TOML: it is nested too deeply", fix="write flat sections") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", fix="correct that line") from None
    return _anchor(config, path.resolve().parent)


def _explain(error: msgspec.ValidationError, text: bytes, path: Path) -> ConfigError:
    """Translate msgspec's message and JSON path into key, value and fix."""
    message = str(error)
    match = re.search(r" - at `\$\.?(?P<key>[^`]*)`$", message)
    key = match["key"] if match else ""
    reason = message[: match.start()] if match else message
    raw = msgspec.toml.decode(text)
    unknown = re.search(r"unknown field `(?P<name>.*)`$", reason, re.DOTALL)
    if unknown:
        key = f"{key}.{unknown['name']}" if key else unknown["name"] or '""'
        section = {f.name: f.type for f in msgspec.structs.fields(Config)}.get(key.split(".")[0])
        names = [f.name for f in msgspec.structs.fields(section if section and "." in key else Config)]
        return ConfigError(f"unknown key in {path}", field=key, fix=f"use one of: {', '.join(names)}")
    value: Any = raw
    for part in re.findall(r"[^.\[\]]+", key):
        value = value[int(part)] if part.isdigit() else value.get(part)
    return ConfigError(f"{value!r} is not allowed: {reason}", field=key, fix=f"change the value in {path}")


def _anchor(config: Config, root: Path) -> Config:
    if "://" in config.index.store:
        raise ConfigError(
            f"{config.index.store!r} is no directory",
            field="index.store",
            fix="give a directory; commands that read a bucket or a service take it as --store",
        )
    for section, keys in _PATH_KEYS.items():
        struct = getattr(config, section)
        paths = {key: getattr(struct, key) for key in keys}
        anchored = {key: str(root / path) for key, path in paths.items() if not is_remote(path)}
        config = msgspec.structs.replace(config, **{section: msgspec.structs.replace(struct, **anchored)})
    if (root / config.classifier.base).is_dir():
        base = msgspec.structs.replace(config.classifier, base=str(root / config.classifier.base))
        config = msgspec.structs.replace(config, classifier=base)
    return config
