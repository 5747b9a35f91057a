"""Problem documents: the body of every failed request."""

from __future__ import annotations

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A failure (RFC 9457)."""

    type: str
    """path of the page about this kind of error: `/docs/errors/<kind>`, served by the API."""
    title: str
    """the kind in words, the same for every problem of one type."""
    status: int
    detail: str
    """the failure at hand, with the offending value."""
    field: str | None = None
    """parameter, field of the body or part of the path at fault."""
    fix: str | None = None
    """what the client can do about it."""
