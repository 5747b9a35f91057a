"""The names under which the service answers, and the web pages that may send it requests.

A browser sends requests of every page that a user opens, to every address that the browser reaches. Two attacks follow:
the name of a page's server is made to resolve to this service, whose answers the page then reads (DNS rebinding; the
`Host` header names the page's server), or a page sends a request whose answer it cannot read but whose effect it wants
(cross-site request forgery; `Sec-Fetch-Site` and `Origin` name the page).
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

from litestar.types import Scope

from tegakari.schemas.config import ServiceConfig
from tegakari.schemas.errors import ForeignPageError, UnknownHostError
from tegakari.service.http.headers import header

ANY = "*"
"""In `hosts` or `cors_origins`: every name, every origin."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@?#]+)(?::[0-9]{1,5})?", re.IGNORECASE)

_MAX_HOST = 262
"""Characters of the longest name of a host (253), brackets and port."""

_READING_METHODS = ("GET", "HEAD", "OPTIONS")

_METHODS = b"GET, POST, PATCH, DELETE"
_REQUEST_HEADERS = (
    b"Authorization, X-API-Key, Content-Type, If-None-Match, X-Request-ID, MCP-Protocol-Version, Mcp-Method, Mcp-Name"
)
_RESPONSE_HEADERS = b"ETag, Link, Location, Content-Location, Retry-After, X-Request-ID, Tegakari-Truncated"
_PREFLIGHT_SECONDS = b"600"

Headers = list[tuple[bytes, bytes]]


class Origins:
    """The names of the service and the origins of permitted pages, as configured."""

    def __init__(self, config: ServiceConfig) -> None:
        """Read the keys `host`, `hosts` and `cors_origins`."""
        self._any_host = ANY in config.hosts
        self._hosts = frozenset(map(_plain_name, ("localhost", config.host, *config.hosts)))
        bound = _address(config.host)
        self._any_address = bound is not None and bound.is_unspecified
        self._origins = frozenset(origin.lower().rstrip("/") for origin in config.cors_origins)
        self._is_known = lru_cache(maxsize=256)(self._find_host)

    @property
    def configured(self) -> bool:
        """Whether pages of other origins may send requests."""
        return bool(self._origins)

    def check_host(self, scope: Scope) -> None:
        """Check the `Host` header; HTTP/1.0, which no browser speaks, may omit it.

        Raises:
            UnknownHostError: it is not a name of this service.
        """
        host = header(scope, b"host")
        known = len(host) <= _MAX_HOST and self._is_known(host)  # the cache holds no long texts
        if self._any_host or known or (not host and scope.get("http_version") == "1.0"):
            return
        raise UnknownHostError(
            f"{host!r} is not a name of this server",
            field="Host",
            fix="use the server's address, or add the name to `hosts` in [service] of its configuration",
        )

    def _find_host(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if not match:
            return False
        name = _plain_name(match[1])
        if name in self._hosts:
            return True
        # A page whose server has an address for a name was loaded from that address: nothing was rebound.
        address = _address(name)
        return address is not None and (self._any_address or address.is_loopback)

    def check_page(self, scope: Scope, method: str) -> None:
        """Check that no page of another origin sent a request that changes or computes something.

        Args:
            scope: of the request.
            method: its HTTP method.

        Raises:
            ForeignPageError: a page sent it, of an origin that is neither this service's own nor configured.
        """
        if method in _READING_METHODS:
            return
        site, origin = header(scope, b"sec-fetch-site"), header(scope, b"origin")
        # "none": the user typed the address. Browsers that do not send Sec-Fetch-Site send Origin with every POST.
        own = site in ("same-origin", "none") if site else not origin or _server_of(origin) == header(scope, b"host")
        if not own and not self._permits(origin):
            raise ForeignPageError(
                f"a page of {origin or 'another origin'} sent the request",
                field="Origin",
                fix="add the origin to `cors_origins` in [service] of the server's configuration",
            )

    def _permits(self, origin: str) -> bool:
        return ANY in self._origins or origin.lower() in self._origins

    def is_preflight(self, scope: Scope, method: str) -> bool:
        """Whether a browser asks for permission before it sends a request of a page; it sends no key with that."""
        return method == "OPTIONS" and self.configured and bool(header(scope, b"access-control-request-method"))

    def preflight_headers(self, scope: Scope) -> Headers:
        """Headers of the answer to a preflight, in addition to `page_headers`.

        Raises:
            ForeignPageError: the origin is not configured.
        """
        origin = header(scope, b"origin")
        if not self._permits(origin):
            raise ForeignPageError(f"{origin!r} is not an origin of `cors_origins`", field="Origin")
        return [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _REQUEST_HEADERS),
            (b"access-control-max-age", _PREFLIGHT_SECONDS),
        ]

    def page_headers(self, scope: Scope) -> Headers:
        """Headers with which a browser lets a page of a configured origin read the response; none for other pages."""
        origin = header(scope, b"origin") if self.configured else ""
        if not origin or not self._permits(origin):
            return []
        allowed = ANY if ANY in self._origins else origin
        return [
            (b"access-control-allow-origin", allowed.encode("latin-1")),
            (b"access-control-expose-headers", _RESPONSE_HEADERS),
        ]


def _plain_name(name: str) -> str:
    return name.lower().rstrip(".").strip("[]")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _server_of(origin: str) -> str:
    """Host and port of an origin, spelled as in the `Host` header of its own requests."""
    return origin.partition("://")[2]
