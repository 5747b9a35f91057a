"""The source of a store's queries: a directory or a service, with the same methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tegakari.access.local import LocalStore
    from tegakari.client import Client

Source: TypeAlias = "LocalStore | Client"
"""`limit` of a list is the size of its pages. A directory raises the classes of `tegakari.schemas.errors`, a service
`ApiError` with their slugs."""
