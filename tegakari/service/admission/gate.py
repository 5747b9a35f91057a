"""What every request passes before it is routed, and every answer on its way out."""

from __future__ import annotations

import itertools
import math
import re
import secrets
import time

from litestar import Request
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from tegakari.schemas.config import ServiceConfig
from tegakari.schemas.errors import OverloadedError, TegakariError
from tegakari.schemas.keys import ApiKey
from tegakari.service.admission.keys import KeyRing
from tegakari.service.admission.limits import Rates, limited_body, too_large
from tegakari.service.http.compression import WORTHWHILE, coding_of, compress, is_textual
from tegakari.service.http.headers import header
from tegakari.service.http.problems import error_response
from tegakari.service.observe import metrics
from tegakari.service.observe.logs import log

_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NO_CONTENT_BUT_DATA = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""For answers that say nothing else: they are data, not pages."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_BODY_METHODS = ("POST", "PUT", "PATCH", "DELETE")


class Gate:
    """Admits or refuses requests by key, rate, load and size; then compresses, counts and logs the answers."""

    def __init__(self, config: ServiceConfig, *, keys: KeyRing, rates: Rates) -> None:
        """Start with no request in progress.

        Args:
            config: the limits.
            keys: who may ask.
            rates: how often each has asked.
        """
        self._config = config
        self._keys = keys
        self._rates = rates
        self._in_progress = 0
        self._ids = map("{}-{:x}".format, itertools.repeat(secrets.token_hex(4)), itertools.count())

    async def __call__(self, scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
        start = time.perf_counter()
        sent_id = header(scope, b"x-request-id")
        request_id = sent_id if _REQUEST_ID.fullmatch(sent_id) else next(self._ids)
        answer = ResponseFinisher(send, request_id, coding_of(header(scope, b"accept-encoding")))
        scope.setdefault("state", {})
        self._in_progress += 1
        metrics.IN_PROGRESS.inc()
        try:
            try:
                self._admit(scope)
            except TegakariError as error:
                metrics.REFUSED.labels(error.slug).inc()
                response = error_response(error).to_asgi_response(None, Request(scope))
                await response(scope, receive, answer)
                return
            if scope.get("method") in _BODY_METHODS:
                receive = limited_body(receive, largest=self._config.max_body_bytes, seconds=self._config.body_seconds)
            await app(scope, receive, answer)
        finally:
            self._in_progress -= 1
            metrics.IN_PROGRESS.dec()
            self._note(scope, answer, request_id, time.perf_counter() - start)

    def _admit(self, scope: Scope) -> None:
        """Refuse what may not pass.

        Raises:
            OverloadedError: there is enough to do.
            NoKeyError: a key is needed.
            RateError: the client asks too often.
            TooLargeError: the body says itself that it is.
        """
        path = scope["path"]
        if not (path.startswith("/v1") or path == "/metrics"):
            return
        if self._in_progress > self._config.max_requests:
            raise OverloadedError(f"{self._config.max_requests} requests are in progress", fix="come again later")
        key = None
        if self._keys.required:
            key = self._keys.check(header(scope, b"authorization"), header(scope, b"x-api-key"))
            scope["state"]["key"] = key
        self._limit_rate(scope, key)
        length = header(scope, b"content-length")
        if length.isdecimal() and (len(length) > 18 or int(length) > self._config.max_body_bytes):
            raise too_large(self._config.max_body_bytes)

    def _limit_rate(self, scope: Scope, key: ApiKey | None) -> None:
        own = key.requests_per_second if key else None
        allowed = own or self._config.requests_per_second
        if allowed and math.isfinite(allowed):
            client = scope.get("client")
            self._rates.admit(f"key {key.id}" if key else f"address {client[0] if client else ''}", allowed)

    def _note(self, scope: Scope, answer: ResponseFinisher, request_id: str, seconds: float) -> None:
        method = "HEAD" if scope["state"].get("head") else scope.get("method", "")
        route = scope.get("path_template") or metrics.UNROUTED
        metrics.record(method, route, answer.status, seconds, answer.size)
        if self._config.log != "off":
            key = scope["state"].get("key")
            who = {"key": key.id} if key else {}
            # As it was sent: decoded, it could hold a line break and forge a line of the log.
            path = scope.get("raw_path", b"").partition(b"?")[0].decode("ascii", "replace")
            milliseconds = round(seconds * 1000, 1)
            log.info("request", id=request_id, method=method, path=path, status=answer.status, ms=milliseconds, **who)


class ResponseFinisher:
    """Sends an answer on with the headers of all answers, compressed where that is wanted and worth it."""

    def __init__(self, send: Send, request_id: str, coding: str | None) -> None:
        self._send = send
        self._coding = coding
        self._own = [*_SECURITY, (b"x-request-id", request_id.encode())]
        self._held: Message | None = None
        self.status = 0
        self.size = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = headers = [*message.get("headers", []), *self._own]
            if not any(name == b"content-security-policy" for name, _ in headers):
                headers.append(_NO_CONTENT_BUT_DATA)
            if self._coding and _may_be_compressed(headers):
                self._held = message  # until it is known how much follows
                return
        elif message["type"] == "http.response.body":
            if self._held is not None:
                message = await self._release(message)
            self.size += len(message.get("body", b""))
        await self._send(message)

    async def _release(self, message: Message) -> Message:
        head, self._held = self._held, None
        body = message.get("body", b"")
        if head is not None:
            if self._coding and not message.get("more_body", False) and len(body) >= WORTHWHILE:
                body = compress(body, self._coding)
                head["headers"] = [  # pyright: ignore
                    *(pair for pair in head["headers"] if pair[0] != b"content-length"),  # pyright: ignore
                    (b"content-length", b"%d" % len(body)),
                    (b"content-encoding", self._coding.encode()),
                ]
                message = {"type": "http.response.body", "body": body, "more_body": False}
            await self._send(head)
        return message


def _may_be_compressed(headers: list[tuple[bytes, bytes]]) -> bool:
    textual = encoded = varies = False
    for name, value in headers:
        textual |= name == b"content-type" and is_textual(value)
        encoded |= name == b"content-encoding"
        varies |= name == b"vary"
    if textual and not varies:
        headers.append((b"vary", b"Accept-Encoding"))
    return textual and not encoded
