"""The model process, which runs models for all workers; it starts and ends with them and is restarted if it dies."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import structlog
import uvicorn

from tegakari.schemas.config import ServiceConfig
from tegakari.service.engine.forward_to_models import SOCKET
from tegakari.service.observe.logs import set_up_logs
from tegakari.store.processes import end_with_parent

log = structlog.get_logger()

RESTART_SECONDS = 1.0
REQUEST_SECONDS = 10
GRACE_SECONDS = 15
"""Time to hand jobs over and to finish requests."""


@contextmanager
def model_process(store: Path, config: ServiceConfig, shared: Path) -> Iterator[threading.Event]:
    """Keep the model process running during the block, which gets an event that stops it before the block's end.

    Args:
        store: the store's directory.
        config: of the service.
        shared: directory that the workers share, with the socket; requests that come over it need no key.
    """
    stopping = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(partial(_run, store, config, shared), stopping), name="model process"
    )
    watcher.start()
    try:
        yield stopping
    finally:
        stopping.set()
        watcher.join()


def _watch(run: partial[None], stopping: threading.Event) -> None:
    context = multiprocessing.get_context("spawn")  # forking would copy locks that other threads hold
    while not stopping.is_set():
        process = context.Process(target=run, name="tegakari-models", daemon=True)
        process.start()
        while process.is_alive() and not stopping.wait(0.2):
            pass
        if stopping.is_set():
            process.terminate()
            process.join(GRACE_SECONDS)
            process.kill()
        else:
            log.error("model process died", status=process.exitcode)
            stopping.wait(RESTART_SECONDS)


def _run(store: Path, config: ServiceConfig, shared: Path) -> None:
    from tegakari.service.app import create_app
    from tegakari.service.process.draining import DrainingServer

    os.setsid()  # Ctrl-C in a terminal reaches the parent only, which ends this process after the workers
    end_with_parent()
    set_up_logs(config.log)
    (shared / SOCKET).unlink(missing_ok=True)
    app = create_app(store, config, behind_gate=True)
    server = uvicorn.Config(
        app,  # pyright: ignore
        uds=str(shared / SOCKET),
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=REQUEST_SECONDS,
    )
    DrainingServer(server).run()
