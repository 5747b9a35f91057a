"""API keys as they are kept: never the key itself, only its hash."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

KeyScope = Literal["read", "compute", "admin"]
"""What a key may do: ask; also run models; also change and delete. Each includes the ones before."""

KEY_SCOPES: tuple[KeyScope, ...] = ("read", "compute", "admin")


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key without its secret."""

    id: Annotated[str, Meta(pattern="^[0-9a-f]{8}$")]
    """the part of the key that is no secret; it names the key in logs."""
    name: str
    """whose it is, in words."""
    scope: KeyScope
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """of the whole key. Keys are drawn from 256 bits, so that a plain hash cannot be searched."""
    created: str
    """ISO 8601, UTC."""
    expires: str | None = None
    """ISO 8601, UTC; null = never."""
    requests_per_second: Annotated[float, Meta(gt=0)] | None = None
    """its own limit; null = that of the configuration."""


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file of keys."""

    keys: list[ApiKey] = []
