"""Settings of an analysis in words: what differs from the defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

DEFAULTS = "defaults"
"""Settings of which none differs."""

SHOWN_ITEMS = 4
"""Items of a list that are shown; of longer ones their number."""

SHOWN_CHARACTERS = 40
"""Characters of a text that are shown; of a hash 8 digits."""


def settings_text(
    settings: Mapping[str, Any], struct: type[msgspec.Struct] | None, defaults: msgspec.Struct | None
) -> str:
    """The settings that differ from the defaults, such as "pairs 30, seed 1".

    Args:
        settings: complete, as JSON values.
        struct: of the settings; None: not known.
        defaults: settings where none are given; None: some have no default, and the others have that of their field.
    """
    if defaults is not None:
        base: Mapping[str, Any] = msgspec.to_builtins(defaults)
    else:
        base = {} if struct is None else _defaults_of_fields(struct)
    return ", ".join(_differences(settings, base)) or DEFAULTS


def _defaults_of_fields(struct: type[msgspec.Struct]) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        if field.default is not msgspec.NODEFAULT:
            defaults[field.name] = msgspec.to_builtins(field.default)
        elif field.default_factory is not msgspec.NODEFAULT:
            defaults[field.name] = msgspec.to_builtins(field.default_factory())
    return defaults


def _differences(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        default = defaults.get(name)
        if value is None or (name in defaults and value == default):
            continue
        if name == "documents_of" and value == settings.get("label"):  # filled in from the label
            continue
        if isinstance(value, dict) and isinstance(default, dict):
            within = ((part, item) for part, item in value.items() if item != default.get(part))
            yield from (f"{name} {part} {_words(part, item)}" for part, item in within)
        else:
            yield f"{name.removesuffix('_sha256')} {_words(name, value)}"


def _words(name: str, value: Any) -> str:
    match value:
        case list() if len(value) > SHOWN_ITEMS:
            return f"({len(value)})"
        case list():
            return " ".join(map(_item, value)) or "none"
        case dict() if "layer" not in value:
            return " ".join(f"{key} {_item(item)}" for key, item in value.items())
        case str() if name.endswith("_sha256"):
            return value[:8]
        case _:
            return _item(value)


def _item(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case {"layer": layer, "feature": feature}:
            return f"{layer}:{feature}"
        case list() | dict():
            return "…"
        case _:
            text = " ".join(str(value).split())
            return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"
