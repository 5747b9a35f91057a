"""The API on a port: uvicorn, in one process or in several workers that share the socket and the store."""

from __future__ import annotations

import gc
import ipaddress
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvicorn
from litestar.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from tegakari.schemas.config import ServiceConfig
from tegakari.schemas.errors import ConfigError, MissingExtraError
from tegakari.service.admission.keys import KeyRing, read_keys
from tegakari.service.observe import METRICS_DIRECTORY
from tegakari.service.observe.logs import set_up_logs
from tegakari.service.process.model_process import model_process
from tegakari.service.process.slow_clients import SlowClientProtocol
from tegakari.store.disk.publish import published_names
from tegakari.store.processes import end_with_parent, keep_working_directory_off_path

if TYPE_CHECKING:
    from tegakari.store.objects.cache import Cache

log = structlog.get_logger()

SHUTDOWN_SECONDS = 10
"""Time that requests in progress have to finish once the server is told to stop."""

BACKLOG = 2048
"""Connections that wait to be accepted while the workers are busy."""

SEND_BUFFER = 2**17
"""Bytes that the kernel may hold per connection for a slow reader; it doubles the number for its own use."""

UNREAD_SECONDS = 30
"""Time for which the kernel keeps what a client does not take, also after the server has closed the connection."""


def serve(config: ServiceConfig, store: Path, *, insecure: int = 0, cache: Cache | None = None) -> None:
    """Serve a store until SIGINT or SIGTERM, then finish the requests in progress and return.

    Args:
        config: address, number of workers and limits; port 0 takes any free port, which the log names.
        store: the store's directory.
        insecure: 1: listen without keys on an address that other machines reach; anyone who reaches it can then read
            everything. 2: on all addresses, those of networks that are joined later as well.
        cache: of a bucket, which keeps the store's directory in step with it; None: the store is its own.

    Raises:
        MissingExtraError: `mcp` is configured, and its packages are not installed.
        ConfigError: a run to preload is not published; the address is no loopback address and there are neither keys
            nor enough `insecure`; it is not an address of this machine, or the port is taken; or the file of keys is
            damaged.
        ObjectStorageError: the bucket cannot be read, and nothing of it is in the cache.
    """
    set_up_logs(config.log)
    keep_working_directory_off_path()
    with cache.kept() if cache is not None else nullcontext():
        if cache is not None:
            for name in config.preload:
                cache.pull(name)
        _serve(config, store, insecure)


def _serve(config: ServiceConfig, store: Path, insecure: int) -> None:
    keys = Path(config.keys)
    _check_preload(config, store)
    _check_mcp(config)
    listener = _listen(config, has_keys=bool(read_keys(keys)), insecure=insecure)
    if not store.is_dir():
        log.warning("the store does not exist yet", store=str(store), fix="index a run, or check --store")
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    log.info("serving", url=url, store=str(store), workers=config.workers, keys=KeyRing(keys).required)
    with listener, tempfile.TemporaryDirectory(prefix="tegakari-") as shared, _catch_signals():
        directory = Path(shared) if config.workers > 1 else None
        with model_process(store, config, directory) if directory else nullcontext() as stopping:
            _run(config, partial(_application, store, config, keys, directory), listener, directory, stopping)
    gc.unfreeze()  # at exit the collector frees what extensions such as DuckDB would else report as leaked
    log.info("stopped")


def _check_preload(config: ServiceConfig, store: Path) -> None:
    names = published_names(store)
    for name in config.preload:
        if name not in names:
            raise ConfigError(
                f"no run {name!r} in {store}",
                field="service.preload",
                fix=f"published runs: {', '.join(names) or 'none'}",
            )


def _check_mcp(config: ServiceConfig) -> None:
    if config.mcp and find_spec("mcp") is None:
        raise MissingExtraError(
            "mcp is not installed", field="service.mcp", fix="pip install 'tegakari[mcp]', or leave the tools out"
        )


def _run(
    config: ServiceConfig,
    application: partial[ASGIApp],
    listener: socket.socket,
    shared: Path | None,
    stopping: threading.Event | None,
) -> None:
    settings = uvicorn.Config(
        application,
        factory=True,
        workers=config.workers,
        http=SlowClientProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=bool(config.trusted_proxies),
        forwarded_allow_ips=config.trusted_proxies or None,
        backlog=BACKLOG,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    if shared is None or stopping is None:
        from tegakari.service.process.draining import DrainingServer  # it imports the application

        DrainingServer(settings).run(sockets=[listener])
        return
    os.environ[METRICS_DIRECTORY] = str(shared)
    listener.set_inheritable(True)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _Workers(settings, [listener], stopping).run()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        del os.environ[METRICS_DIRECTORY]


class _Workers(Multiprocess):
    """Worker processes. The requests that were in progress in a worker that died are no longer in progress."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], stopping: threading.Event) -> None:
        """Start no process.

        Args:
            config: of the workers.
            sockets: that they share.
            stopping: set when they are told to stop, so that the model process hands its jobs over at that moment.
        """
        super().__init__(config, sockets)
        self._stopping = stopping

    def terminate_all(self) -> None:
        """Tell all workers to stop."""
        self._stopping.set()
        super().terminate_all()

    def keep_subprocess_alive(self) -> None:
        """Replace workers that died, and remove their gauges; what their counters have counted stays."""
        from prometheus_client.multiprocess import mark_process_dead

        workers = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in workers - {process.pid for process in self.processes}:
            mark_process_dead(pid)


def _application(store: Path, config: ServiceConfig, keys: Path, shared: Path | None) -> ASGIApp:
    """The application that a worker runs."""
    # Imported here: prometheus_client reads METRICS_DIRECTORY when it is imported.
    from tegakari.service.app import create_app

    set_up_logs(config.log)
    if shared is not None:
        end_with_parent()
    app: ASGIApp = create_app(store, config, keys=keys, shared=shared)  # pyright: ignore
    if config.telemetry:
        from tegakari.service.observe.traces import traced

        app = traced(app)
    gc.collect()
    gc.freeze()  # what is imported stays: collecting it again and again holds up requests for 100 ms
    return app


@contextmanager
def _catch_signals() -> Iterator[None]:
    """End the block, not the program: uvicorn raises the signal that stopped it again when it is done."""
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield
        return
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def _exposure(address: str) -> int:
    """How far an address reaches: 0 this machine, 1 a network, 2 all networks, as 0.0.0.0 and :: do."""
    bound = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(bound, ipaddress.IPv6Address) and bound.ipv4_mapped:
        bound = bound.ipv4_mapped
    return 0 if bound.is_loopback else 2 if bound.is_unspecified else 1


def _listen(config: ServiceConfig, *, has_keys: bool, insecure: int) -> socket.socket:
    """Bind before anything else starts, so that a wrong address fails with its own message."""
    try:
        family, _, _, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(
            f"{config.host!r} is not an address: {error.strerror}", field="service.host", fix="use 127.0.0.1"
        ) from None
    if not has_keys and insecure < (needed := _exposure(str(address[0]))):
        reach = "every network of this machine" if needed == 2 else "other machines"
        raise ConfigError(
            f"{config.host!r} can be reached from {reach}, and there are no API keys in {config.keys}",
            field="service.host",
            fix="create a key with `tegakari keys create`, or listen on 127.0.0.1; "
            f"{' '.join(['--insecure'] * needed)} lets everyone who reaches the port read the store",
        )
    # asyncio turns Nagle's algorithm off only for a socket created as TCP; with it every response takes 40 ms longer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # connections inherit these
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)
        listener.bind(address)
        listener.listen(BACKLOG)  # from here on clients wait instead of failing
        return listener
    except OSError as error:
        listener.close()
        message = f"cannot listen on {config.host} port {config.port}: {os.strerror(error.errno or 0)}"
        raise ConfigError(
            message, field="service.port", fix="choose another port, or stop what listens there"
        ) from None
