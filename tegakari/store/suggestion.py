"""Suggestions for names that do not exist."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def suggestion(name: str, names: Iterable[str]) -> str:
    """A question that names the most similar name, with a space behind it; empty if none is similar."""
    similar = get_close_matches(name, list(names), n=1)
    return f"did you mean {similar[0]!r}? " if similar else ""
