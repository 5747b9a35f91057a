"""Paths are matched as they were sent, so that a label with a slash (`%2F`) is one segment."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, unquote

from litestar.types import Scope

_PLAIN = re.compile(rb"[A-Za-z0-9/_.~-]*")


def encoded_path(scope: Scope) -> str:
    """The request's path with each segment in one spelling: reserved characters encoded, others not."""
    raw = scope.get("raw_path") or quote(scope["path"]).encode()
    path, _, _ = raw.partition(b"?")  # some clients that call the application in-process leave the query on
    if _PLAIN.fullmatch(path):
        return path.decode("ascii")
    return _remembered(path) if len(path) < _REMEMBERED_LENGTH else _spelled(path)


def _spelled(path: bytes) -> str:
    return "/".join(quote(unquote(segment), safe="") for segment in path.decode("ascii", "replace").split("/"))


_REMEMBERED_LENGTH = 512
_remembered = lru_cache(maxsize=4096)(_spelled)


def decode_parameters(scope: Scope) -> None:
    """Decode the path parameters once a route is found."""
    # A new mapping: the router shares the one it gives between requests.
    scope["path_params"] = {
        name: unquote(value) if isinstance(value, str) else value for name, value in scope["path_params"].items()
    }
