"""The API on a port: uvicorn, with one line of log a request."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog
import uvicorn
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from tegakari.schemas.config import ServiceConfig
from tegakari.schemas.errors import ConfigError
from tegakari.service.app import create_app

log = structlog.get_logger()

SHUTDOWN_SECONDS = 10
"""Time that requests under way get to finish once the server is asked to stop."""


def serve(config: ServiceConfig, store: Path, *, insecure: bool = False) -> None:
    """Serve a store until SIGINT or SIGTERM, then finish the requests under way and return.

    Args:
        config: where to listen; port 0 takes any free one, which the log names.
        store: the store's directory.
        insecure: listen on an address that other machines reach, although anyone there can then read everything.

    Raises:
        ConfigError: the address is not a loopback one and `insecure` is not given, is not this machine's, or is taken.
    """
    listener = _listen(config, insecure=insecure)
    if not store.is_dir():
        log.warning("no store yet", store=str(store), fix="index a run, or check --store")
    server = uvicorn.Server(
        uvicorn.Config(
            AccessLog(create_app(store)),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
    )
    host, port = listener.getsockname()[:2]
    log.info("serving", url=f"http://{f'[{host}]' if ':' in host else host}:{port}", store=str(store))
    with listener, _ended_by_signals():
        server.run(sockets=[listener])
    log.info("stopped")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """End the block, not the program: uvicorn raises the signal that stopped it once more when it is done."""
    if threading.current_thread() is not threading.main_thread():  # signals never come here
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _listen(config: ServiceConfig, *, insecure: bool) -> socket.socket:
    """Bind before anything else starts, so that a wrong address is said plainly."""
    try:
        family, _, _, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(
            f"{config.host!r} is no address: {error.strerror}", field="service.host", fix="use 127.0.0.1"
        ) from None
    if not (insecure or ipaddress.ip_address(address[0]).is_loopback):
        raise ConfigError(
            f"{config.host!r} can be reached from other machines, and API keys are not available yet",
            field="service.host",
            fix="listen on 127.0.0.1 and put a proxy that asks for a password before it",
        )
    # asyncio turns Nagle's delay off only for a socket that says it is TCP; with it every answer takes 40 ms more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()  # from here on clients wait rather than fail
        return listener
    except OSError as error:
        listener.close()
        taken = f"cannot listen on {config.host} port {config.port}: {os.strerror(error.errno or 0)}"
        raise ConfigError(taken, field="service.port", fix="choose another port, or stop what listens there") from None


class AccessLog:
    """Logs method, path, status and milliseconds of every request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            # As it was sent: decoded, it could hold a line break and forge a line of the log.
            path = scope["raw_path"].decode("ascii", "replace")
            milliseconds = round((time.perf_counter() - start) * 1000, 1)
            log.info("request", method=scope["method"], path=path, status=status, ms=milliseconds)
