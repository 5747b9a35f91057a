"""Render `tegakari.toml`, with a comment per key, from the types that parse it."""

from __future__ import annotations

import json
from typing import Annotated, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from tegakari.schemas.config.schema import Config

HEADER = "# tegakari.toml: relative paths are resolved from the directory of this file.\n"


def render_config(config: Config) -> str:
    """Render a configuration as commented TOML that `load_config` reads back to the same values."""
    parts = [HEADER]
    for section in msgspec.structs.fields(Config):
        struct: msgspec.Struct = getattr(config, section.name)
        doc = (type(struct).__doc__ or "").strip().splitlines()[0]
        parts.append(f"\n[{section.name}]\n# {doc}\n")
        hints = get_type_hints(type(struct), include_extras=True)
        lines = [(f"{key} = {_toml(getattr(struct, key))}", _description(hint)) for key, hint in hints.items()]
        width = min(max(len(line) for line, _ in lines), 44)
        parts.extend(f"{line:<{width}}  # {about}\n" for line, about in lines)
    return "".join(parts)


def _description(hint: object) -> str:
    if get_origin(hint) is Annotated:
        for meta in get_args(hint)[1:]:
            if isinstance(meta, Meta) and meta.description:
                return meta.description
    return ""


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | list):
        return json.dumps(value, ensure_ascii=False)  # JSON strings and lists of them are TOML too
    return repr(value)
