"""The one process that runs models for several workers; it starts and ends with them, and is replaced if it dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
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

log = structlog.get_logger()

RESTART_SECONDS = 1.0
GRACE_SECONDS = 10


@contextmanager
def model_process(store: Path, config: ServiceConfig, shared: Path) -> Iterator[None]:
    """Keep the process running for the block.

    Args:
        store: the store's directory.
        config: of the service.
        shared: directory that the workers share; the socket lies there, and whoever reaches it needs no key.
    """
    stopping = threading.Event()
    watcher = threading.Thread(target=_watch, args=(partial(_run, store, config, shared), stopping), name="models")
    watcher.start()
    try:
        yield
    finally:
        stopping.set()
        watcher.join()


def _watch(run: partial[None], stopping: threading.Event) -> None:
    spawned = multiprocessing.get_context("spawn")  # forking would copy threads' locks in whatever state they are
    while not stopping.is_set():
        process = spawned.Process(target=run, name="tegakari-models", daemon=True)
        process.start()
        while process.is_alive() and not stopping.wait(0.2):
            pass
        if stopping.is_set():
            process.terminate()
            process.join(GRACE_SECONDS)
            process.kill()
        else:
            log.error("the process that runs the models died", status=process.exitcode)
            stopping.wait(RESTART_SECONDS)


def _run(store: Path, config: ServiceConfig, shared: Path) -> None:
    from tegakari.service.app import create_app

    os.setsid()  # a terminal's Ctrl-C goes to the parent, which ends this process when the workers are done
    end_with_parent()
    set_up_logs(config.log)
    (shared / SOCKET).unlink(missing_ok=True)
    app = create_app(store, config, behind=True)
    server = uvicorn.Config(
        app,  # pyright: ignore
        uds=str(shared / SOCKET),
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    uvicorn.Server(server).run()


def end_with_parent() -> None:
    """Have this process end when the one that started it does, however it does."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
