"""Reading and answering request headers."""

from __future__ import annotations

from litestar.types import Scope


def header(scope: Scope, name: bytes) -> str:
    """The values of a request header, joined by commas; empty where it was not sent.

    Args:
        scope: of the request.
        name: in lower case.
    """
    found = [value for key, value in scope["headers"] if key == name]
    return b", ".join(found).decode("latin-1") if found else ""


def preferences(value: str) -> list[str]:
    """Names in an `Accept` or `Accept-Encoding` header that are wanted, most wanted first; in lower case."""
    weighed = []
    for place, part in enumerate(value.lower().split(",")):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, number = parameter.partition("=")
            if key.strip() == "q":
                try:
                    weight = float(number)
                except ValueError:
                    weight = 0.0
        if name and weight > 0:
            weighed.append((-weight, place, name))
    return [name for _, _, name in sorted(weighed)]
