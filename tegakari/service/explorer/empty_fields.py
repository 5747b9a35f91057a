"""Forms send their empty fields too: `?layer=&variety=`. To a page they are absent."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send


class WithoutEmptyFields(ASGIMiddleware):
    """Removes query parameters without a value."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        query = scope["query_string"]
        if query:
            fields = parse_qsl(query.decode("ascii", "replace"))  # leaves empty values out
            scope["query_string"] = urlencode(fields).encode("ascii")
        await next_app(scope, receive, send)
