"""The gate: every request passes it before its route runs, and every response before it is sent."""

from __future__ import annotations

import itertools
import math
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from litestar import Request
from litestar.concurrency import sync_to_thread
from litestar.handlers.base import BaseRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from tegakari.schemas.config import ServiceConfig
from tegakari.schemas.errors import LongAddressError, MediaTypeError, OverloadedError, RateError, TegakariError
from tegakari.schemas.keys import ApiKey
from tegakari.service.admission.keys import KeyRing, require_scope
from tegakari.service.admission.limits import Rates, limited_body, too_large
from tegakari.service.admission.origins import Headers, Origins
from tegakari.service.admission.unsent import PART_BYTES, UnsentBodies
from tegakari.service.http.compression import coding_of, is_textual
from tegakari.service.http.cookies import KEY_COOKIE, cookie_of
from tegakari.service.http.headers import header
from tegakari.service.http.negotiation import JSON
from tegakari.service.http.operations import FORM, REFUSAL
from tegakari.service.http.problems import error_response
from tegakari.service.observe import metrics
from tegakari.service.observe.logs import log
from tegakari.store.export.codings import MIN_COMPRESSED_BYTES, compress

_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_DATA_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""For responses without a policy of their own: they are data, not pages."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

MAX_ADDRESS = 8192
"""Maximum length of path and query in bytes. The router keeps a thousand of each in memory, before it knows the key."""

PART_OF_REQUEST = "part_of_request"
"""State of a request that the application sends to itself for one that was admitted: it adds nothing to the rate of the
client. Key and scope are checked as for any other."""

_BODY_METHODS = ("POST", "PUT", "PATCH", "DELETE")
_JSON_METHODS = ("POST", "PUT", "PATCH")


class Gate:
    """Admits or refuses requests by origin, key, rate, load and size; compresses, counts and logs the responses."""

    def __init__(self, config: ServiceConfig, *, keys: KeyRing, rates: Rates) -> None:
        """Start with no request in progress.

        Args:
            config: the limits.
            keys: that requests are checked against.
            rates: requests of each client so far.
        """
        self._config = config
        self._keys = keys
        self._rates = rates
        self._origins = Origins(config)
        self._unsent = UnsentBodies()
        self._in_progress = 0
        self._in_progress_of: Counter[str] = Counter()
        self._ids = map("{}-{:x}".format, itertools.repeat(secrets.token_hex(4)), itertools.count())

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, app: ASGIApp, route: BaseRouteHandler | None
    ) -> None:
        """Pass a request on to the application, or refuse it.

        Args:
            scope: of the request.
            receive: of the request.
            send: of the request.
            app: the router.
            route: the handler that the router chooses for the request; None: none, so that the answer is 404 or 405.
        """
        start = time.perf_counter()
        client_id = header(scope, b"x-request-id")
        request_id = client_id if _REQUEST_ID.fullmatch(client_id) else next(self._ids)
        finisher = ResponseFinisher(
            send,
            request_id,
            coding_of(header(scope, b"accept-encoding")),
            page_headers=self._origins.page_headers(scope),
            vary_by_origin=self._origins.configured,
            parts=partial(self._unsent.parts, scope=scope),
        )
        scope.setdefault("state", {})
        self._in_progress += 1
        metrics.IN_PROGRESS.inc()
        try:
            try:
                if self._origins.is_preflight(scope, scope.get("method", "")):
                    await _answer_preflight(finisher, self._origins.preflight_headers(scope))
                    return
                self._admit(scope, route)
            except TegakariError as error:
                metrics.REFUSED.labels(error.slug).inc()
                refusal = route.opt.get(REFUSAL) if route is not None else None
                refused = refusal(Request(scope), error) if refusal else error_response(error)
                response = refused.to_asgi_response(None, Request(scope))
                await response(scope, receive, finisher)
                return
            if scope.get("method") in _BODY_METHODS:
                receive = limited_body(
                    receive, max_bytes=self._config.max_body_bytes, seconds=self._config.body_seconds
                )
            await app(scope, receive, finisher)
        finally:
            self._in_progress -= 1
            self._end_of(scope["state"].get("client"))
            metrics.IN_PROGRESS.dec()
            self._record(scope, finisher, request_id, time.perf_counter() - start)

    def _admit(self, scope: Scope, route: BaseRouteHandler | None) -> None:
        """Check a request by its route, not by its path, which has many spellings. Public routes have no limits.

        Raises:
            UnknownHostError: the request names another host.
            LongAddressError: path and query are longer than MAX_ADDRESS.
            OverloadedError: the maximum number of requests is in progress.
            NoKeyError: the request needs a valid key.
            KeyScopeError: the scope of its key does not include the route.
            RateError: the client exceeds its requests per second, or those in progress.
            ForeignPageError: a page of another origin sent the request.
            TooLargeError: Content-Length exceeds the maximum.
            MediaTypeError: the body is not JSON.
        """
        self._origins.check_host(scope)
        if is_long(scope):
            raise LongAddressError(
                f"path and query are longer than {MAX_ADDRESS:,} bytes", fix="send long texts in a body"
            )
        if route is not None and "public" in route.opt:
            return
        if self._in_progress > self._config.max_requests:
            raise OverloadedError(f"{self._config.max_requests} requests are in progress", fix="retry later")
        key = None
        if self._keys.required:
            api_key = header(scope, b"x-api-key") or cookie_of(scope, KEY_COOKIE)
            key = self._keys.check(header(scope, b"authorization"), api_key)
            scope["state"]["key"] = key
        address = scope.get("client")
        client = f"key {key.id}" if key else f"address {address[0] if address else ''}"
        self._begin_of(client)
        scope["state"]["client"] = client
        if PART_OF_REQUEST not in scope["state"]:
            self._limit_rate(client, key)
        length = header(scope, b"content-length")
        if length.isdecimal() and (len(length) > 18 or int(length) > self._config.max_body_bytes):
            raise too_large(self._config.max_body_bytes)
        method = scope.get("method", "")
        self._origins.check_page(scope, method)
        if route is not None:
            require_scope(key, route, method)
            if method in _JSON_METHODS and FORM not in route.opt:
                _require_json(scope)

    def check_form(self, scope: Scope, api_key: str) -> None:
        """Check a key that a page of this service sent; the route of the form is public, so that nobody checked it.

        Raises:
            ForeignPageError: a page of another origin sent it.
            NoKeyError: the key is unknown, revoked or expired.
            RateError: the address exceeds its requests per second.
        """
        self._origins.check_page(scope, "POST")
        address = scope.get("client")
        self._limit_rate(f"address {address[0] if address else ''}", None)
        self._keys.check("", api_key)

    def _begin_of(self, client: str) -> None:
        if self._in_progress_of[client] >= self._config.max_requests_per_client:
            raise RateError(
                f"{self._config.max_requests_per_client} requests of this client are in progress", retry_after=1
            )
        self._in_progress_of[client] += 1

    def _end_of(self, client: str | None) -> None:
        if client is not None:
            self._in_progress_of[client] -= 1
            if not self._in_progress_of[client]:
                del self._in_progress_of[client]

    def _limit_rate(self, client: str, key: ApiKey | None) -> None:
        rate = (key.requests_per_second if key else None) or self._config.requests_per_second
        if rate and math.isfinite(rate):
            self._rates.admit(client, rate)

    def _record(self, scope: Scope, finisher: ResponseFinisher, request_id: str, seconds: float) -> None:
        method = "HEAD" if scope["state"].get("head") else scope.get("method", "")
        route = scope.get("path_template") or metrics.UNROUTED
        metrics.record(method, route, finisher.status, seconds, finisher.size)
        if self._config.log != "off":
            key = scope["state"].get("key")
            key_id = {"key": key.id} if key else {}
            # Percent-encoded as sent: a decoded path could contain a line break and forge a line of the log.
            path = scope.get("raw_path", b"").partition(b"?")[0].decode("ascii", "replace")
            milliseconds = round(seconds * 1000, 1)
            log.info(
                "request", id=request_id, method=method, path=path, status=finisher.status, ms=milliseconds, **key_id
            )


def is_long(scope: Scope) -> bool:
    """Whether path and query of a request are too long to be routed."""
    return len(scope["path"]) + len(scope.get("query_string", b"")) > MAX_ADDRESS


def _require_json(scope: Scope) -> None:
    """Pages of other origins can send forms and plain text without a preflight, but not JSON."""
    media_type = header(scope, b"content-type")
    if media_type.partition(";")[0].strip().lower() != JSON:
        raise MediaTypeError(
            f"the body is {media_type or 'of no type'}", field="Content-Type", fix=f"send {JSON} with its header"
        )


async def _answer_preflight(send: Send, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


class ResponseFinisher:
    """Sends a response with the headers of all responses, compressed if the client accepts that and it saves bytes."""

    def __init__(
        self,
        send: Send,
        request_id: str,
        coding: str | None,
        *,
        page_headers: Headers,
        vary_by_origin: bool,
        parts: Callable[[bytes], AsyncIterator[tuple[bytes, bool]]],
    ) -> None:
        """Start with nothing sent.

        Args:
            send: of the request.
            request_id: for the header.
            coding: that the client accepts; None: no compression.
            page_headers: that let a page of another origin read the response.
            vary_by_origin: whether the responses to other pages have other headers.
            parts: of a body, each with whether more follow.
        """
        self._send = send
        self._coding = coding
        self._headers = [*_SECURITY_HEADERS, (b"x-request-id", request_id.encode()), *page_headers]
        self._vary_by_origin = vary_by_origin
        self._parts = parts
        self._held_start: Message | None = None
        self.status = 0
        self.size = 0
        """bytes of the body, after compression"""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = headers = [*message.get("headers", []), *self._headers]
            if not any(name == b"content-security-policy" for name, _ in headers):
                headers.append(_DATA_POLICY)
            compressible = _may_be_compressed(headers)
            if self._vary_by_origin:
                _add_origin_to_vary(headers)
            if self._coding and compressible:
                self._held_start = message  # until the size of the body is known
                return
        elif message["type"] == "http.response.body":
            if self._held_start is not None:
                message = await self._send_start(message)
            await self._send_body(message)
            return
        await self._send(message)

    async def _send_body(self, message: Any) -> None:
        body, more_body = message.get("body", b""), message.get("more_body", False)
        self.size += len(body)
        async for part, more_parts in self._parts(body):
            await self._send({"type": "http.response.body", "body": part, "more_body": more_parts or more_body})

    async def _send_start(self, message: Message) -> Message:
        """Send the held start of the response; returns the first message of the body, compressed if it is the only."""
        start, self._held_start = self._held_start, None
        body = message.get("body", b"")
        if start is not None:
            if self._coding and not message.get("more_body", False) and len(body) >= MIN_COMPRESSED_BYTES:
                in_thread = len(body) > PART_BYTES
                body = await sync_to_thread(compress, body, self._coding) if in_thread else compress(body, self._coding)
                start["headers"] = [  # pyright: ignore
                    *(pair for pair in start["headers"] if pair[0] != b"content-length"),  # pyright: ignore
                    (b"content-length", b"%d" % len(body)),
                    (b"content-encoding", self._coding.encode()),
                ]
                message = {"type": "http.response.body", "body": body, "more_body": False}
            await self._send(start)
        return message


def _add_origin_to_vary(headers: Headers) -> None:
    values = [value for name, value in headers if name == b"vary"]
    headers[:] = [pair for pair in headers if pair[0] != b"vary"]
    headers.append((b"vary", b", ".join([*values, b"Origin"])))


def _may_be_compressed(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a body is text and not encoded yet; adds Vary to the headers of texts."""
    textual = encoded = has_vary = False
    for name, value in headers:
        textual |= name == b"content-type" and is_textual(value)
        encoded |= name == b"content-encoding"
        has_vary |= name == b"vary"
    if textual and not has_vary:
        headers.append((b"vary", b"Accept-Encoding"))
    return textual and not encoded
