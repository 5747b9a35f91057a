"""API keys as stored: the hash of a key, never the key itself."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

KeyScope = Literal["read", "compute", "admin"]
"""Scope of a key: read results; also run models and SQL, and write notes; also delete stored results and others' notes.

Each includes those before it.
"""

KEY_SCOPES: tuple[KeyScope, ...] = ("read", "compute", "admin")


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Record of a key, without its secret."""

    id: Annotated[str, Meta(pattern="^[0-9a-f]{8}$")]
    """public part of the key; it names the key in logs."""
    name: str
    """of the key's user, in words."""
    scope: KeyScope
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """of the whole key. Keys have 256 random bits, so that a plain hash cannot be reversed by search."""
    created: str
    """ISO 8601, UTC."""
    expires: str | None = None
    """ISO 8601, UTC; null = it never expires."""
    requests_per_second: Annotated[float, Meta(gt=0)] | None = None
    """limit of this key; null = the configured one."""

    def __post_init__(self) -> None:
        if self.expires is not None and datetime.fromisoformat(self.expires).tzinfo is None:
            raise ValueError(f"`expires` is {self.expires!r}, without a time zone")


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file of keys."""

    keys: list[ApiKey] = []
