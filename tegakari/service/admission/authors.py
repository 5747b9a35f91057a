"""Authors of notes and explanations: the name of the API key; without keys, the name in the request."""

from __future__ import annotations

from typing import Any

from litestar import Request

from tegakari.schemas.errors import BodyError, KeyScopeError
from tegakari.schemas.keys import ApiKey


def author_of(request: Request[Any, Any, Any], named: str | None) -> str:
    """Author of the note, explanation or vote that a request writes or deletes.

    Args:
        request: with the key that the gate has checked.
        named: author that the request names.

    Raises:
        BodyError: the service has no keys, and the request names nobody.
        KeyScopeError: the request names another author than its key, whose scope is not `admin`.
    """
    key = _key_of(request)
    if key is None:
        if named is None:
            raise BodyError(
                "there is no author",
                field="author",
                fix="give `author`, the name under which others see what you write",
            )
        return named
    if named is None or named == key.name:
        return key.name
    if key.scope == "admin":
        return named
    raise KeyScopeError(
        f"the key {key.id} writes in the name of {key.name!r}, not of {named!r}",
        field="author",
        fix="leave `author` out, or use a key with scope admin",
    )


def author_of_key(request: Request[Any, Any, Any]) -> str | None:
    """Name under which a request writes; None: the service has no keys, so that the request names the author."""
    key = _key_of(request)
    return None if key is None else key.name


def _key_of(request: Request[Any, Any, Any]) -> ApiKey | None:
    return request.scope["state"].get("key")
