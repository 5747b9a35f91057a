"""HTML for notebooks: tables, and tokens in context shaded by activation. Styles are inline; nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, cast

from tegakari.schemas.api import TopToken

SHADE = "255, 150, 50"
"""Colour of an activation, RGB; its opacity is the activation relative to the largest one."""


def table(title: str, rows: Sequence[dict[str, Any]], *, more: bool = False) -> str:
    """A table with one row per dictionary; all dictionaries have the same keys.

    Args:
        title: caption.
        rows: the cells by column.
        more: whether rows were left out.
    """
    columns = list(rows[0]) if rows else []
    head = "".join(f"<th>{escape(column.replace('_', ' '))}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(_cell(*item) for item in row.items())}</tr>" for row in rows)
    rest = f'<tr><td colspan="{len(columns)}">…</td></tr>' if more else ""
    return f"<table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}{rest}</tbody></table>"


def _cell(column: str, value: Any) -> str:
    if column in ("layer", "feature"):  # a number that names something: 9215, not 9,215
        return f'<td style="text-align:right">{value}</td>'
    return f'<td style="text-align:{"right" if _is_number(value) else "left"}">{escape(_text(value))}</td>'


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, cast(list[object], value)))
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.3f}"
        case _:
            return str(value)


def tokens_in_context(tokens: Iterable[TopToken]) -> str:
    """One line per position: the text around the token, the token shaded by its activation."""
    positions = list(tokens)
    largest = max((token.activation for token in positions), default=0.0) or 1.0
    lines = (
        f'<tr><td style="text-align:right">{token.activation:.3f}</td><td>{escape(token.label)}</td>'
        f'<td style="text-align:left; white-space:pre-wrap">{escape(token.before)}'
        f'<span title="{token.activation:.3f}" style="background:rgba({SHADE}, {token.activation / largest:.2f})">'
        f"{escape(token.token)}</span>{escape(token.after)}</td></tr>"
        for token in positions
    )
    head = "<thead><tr><th>activation</th><th>label</th><th>context</th></tr></thead>"
    return f"<table>{head}<tbody>{''.join(lines)}</tbody></table>"
