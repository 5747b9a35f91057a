"""Cookies of requests and responses."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie

from litestar.types import Scope

from tegakari.service.http.headers import header

KEY_COOKIE = "tegakari_key"
"""Holds the API key of a person who has signed in; scripts cannot read it, other sites cannot send it."""

MAX_COOKIES = 4096
"""Characters of the header that are read."""


def cookie_of(scope: Scope, name: str) -> str:
    """Value of a cookie of a request; empty if the request does not have it."""
    value = header(scope, b"cookie")
    if name not in value:
        return ""
    try:
        morsel = SimpleCookie(value[:MAX_COOKIES].replace(", ", "; ")).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel else ""
