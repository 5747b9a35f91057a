"""The shape of every failure."""

from __future__ import annotations

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong, by RFC 9457."""

    type: str
    """a relative URI: the page of this kind of error in the project's documentation."""
    title: str
    """the kind in words, always the same for one type."""
    status: int
    detail: str
    """this occurrence, with the offending value."""
    field: str | None = None
    """the parameter or part of the path at fault."""
    fix: str | None = None
    """what to do about it."""
