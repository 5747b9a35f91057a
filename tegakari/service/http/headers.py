"""Headers of requests and responses: values, preferences among content types and codings, the policy of pages."""

from __future__ import annotations

from litestar.types import Scope

PAGE_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""Content-Security-Policy of HTML pages: everything from this server, scripts from files only."""


MAX_PREFERENCES = 1024
"""Characters of `Accept` and `Accept-Encoding` that are read; browsers send fewer than 200."""


def header(scope: Scope, name: bytes) -> str:
    """The values of a request header, joined by commas; empty if the request does not have it.

    Args:
        scope: of the request.
        name: in lower case.
    """
    values = [value for key, value in scope["headers"] if key == name]
    return b", ".join(values).decode("latin-1") if values else ""


def preferences(value: str) -> list[str]:
    """Accepted names of an `Accept` or `Accept-Encoding` header, in lower case, largest weight first.

    What follows MAX_PREFERENCES characters is ignored: thousands of names would take milliseconds to sort.
    """
    weighted = []
    for position, part in enumerate(value[:MAX_PREFERENCES].lower().split(",")):
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
            weighted.append((-weight, position, name))
    return [name for _, _, name in sorted(weighted)]
