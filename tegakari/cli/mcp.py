"""`tegakari mcp`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from tegakari.cli.options import StoreOption, is_address, refuse_bucket, store_name
from tegakari.cli.output import err
from tegakari.extras import needs_extra
from tegakari.schemas.errors import ConfigError

ANSWER_SECONDS = 90.0
"""Time that a service has for a response."""


@needs_extra("mcp")
def mcp(store: StoreOption = None) -> None:
    """Serve tools for agents on stdin and stdout, by the Model Context Protocol (MCP).

    An agent starts this command; its configuration names it. `tegakari serve --mcp` serves the same tools over HTTP.

    Example: [bold]tegakari mcp --store store[/]
    """
    import httpx

    from tegakari.client.calls import http_arguments
    from tegakari.service.mcp.stdio import serve_service, serve_store

    name = store_name(store)
    refuse_bucket(name)
    if not is_address(name) and not Path(name).is_dir():
        raise ConfigError(
            f"no directory {name}",
            field="--store",
            fix="give the absolute path of a store: an agent starts this command in a directory of its own",
        )
    if sys.stdin.isatty():
        err.print("waits for the messages of an agent on stdin; Ctrl-D ends it")
    # Ctrl-C ends the process at once: nothing can wake the thread that reads stdin.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if is_address(name):
        serve_service(httpx.AsyncClient(**http_arguments(name, None, ANSWER_SECONDS)))
    else:
        serve_store(Path(name))
