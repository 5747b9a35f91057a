"""Paths are routed percent-encoded, so that a label with a slash (`%2F`) is one segment."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, unquote

from litestar.types import Scope

from tegakari.schemas.segments import name_of, segment_of

_PLAIN = re.compile(rb"[A-Za-z0-9/_.~-]*")


def encoded_path(scope: Scope) -> str:
    """The request's path with each segment in one spelling: reserved characters encoded, others not."""
    raw = scope.get("raw_path") or quote(scope["path"]).encode()
    path, _, _ = raw.partition(b"?")  # some in-process clients append the query
    if _PLAIN.fullmatch(path):
        return path.decode("ascii")
    return _normalized_cached(path) if len(path) < _CACHED_LENGTH else _normalized(path)


def _normalized(path: bytes) -> str:
    return "/".join(quote(unquote(segment), safe="") for segment in path.decode("ascii", "replace").split("/"))


_CACHED_LENGTH = 512
_normalized_cached = lru_cache(maxsize=4096)(_normalized)


def address_of(scope: Scope) -> str:
    """The path of a routed request as a client can send it: no segment is `.` or `..`, which clients remove."""
    return "/".join(segment_of(name_of(segment)) for segment in scope["path"].split("/"))


def decode_parameters(scope: Scope) -> None:
    """Decode the path parameters of a routed request."""
    # A new mapping: the router shares its own between requests.
    scope["path_params"] = {
        name: name_of(value) if isinstance(value, str) else value for name, value in scope["path_params"].items()
    }
