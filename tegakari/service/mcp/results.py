"""Results of the API as agents read them: bounded in size, without what only programs need."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from tegakari.schemas.errors import TooLargeError
from tegakari.service.mcp.tools import Cut, Tool

MAX_CHARACTERS = 40_000
"""Longest result, as JSON: about 10,000 tokens of an English text."""

MAX_TEXT = 4000
"""Characters at which a text in a result is cut."""

DIGITS = 5
"""Significant digits of a number; whole numbers keep all."""


def shown_result(result: Any, tool: Tool) -> dict[str, Any]:
    """What a tool shows of a result.

    Raises:
        TooLargeError: that is longer than MAX_CHARACTERS.
    """
    shown = _shown(result, tool)
    characters = len(json_text(shown))
    if characters > MAX_CHARACTERS:
        raise TooLargeError(
            f"the result has {characters:,} characters, {MAX_CHARACTERS:,} at most",
            fix="ask for less: a smaller `limit`, `top` or `features`, fewer texts, layers or columns",
        )
    return shown


def json_text(result: Any) -> str:
    """A result as JSON."""
    return msgspec.json.encode(result).decode()


def _shown(value: Any, tool: Tool) -> Any:
    match value:
        case dict():
            shown: dict[str, Any] = {}
            for name, field in value.items():
                if not tool.exact and (field is None or name in tool.hidden):
                    continue
                cut = tool.cuts.get(name) if isinstance(field, list) else None
                shown[name] = _shown(_first(field, cut) if cut else field, tool)
                if cut and len(field) > cut.items:
                    shown[f"{name}_left_out"] = len(field) - cut.items
            return shown
        case list():
            return [_shown(item, tool) for item in value]
        case float() if not tool.exact:
            return _rounded(value)
        case str() if len(value) > MAX_TEXT:
            return f"{value[:MAX_TEXT]} [... cut: {len(value):,} characters]"
    return value


def _first(items: list[Any], cut: Cut) -> list[Any]:
    order = cut.order
    ordered = items if order is None else sorted(items, key=lambda item: -item[order])
    return ordered[: cut.items]


def _rounded(value: float) -> float:
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, max(0, DIGITS - 1 - math.floor(math.log10(abs(value)))))
