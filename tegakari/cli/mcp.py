"""`tegakari mcp`."""

from __future__ import annotations

from pathlib import Path

from tegakari.cli.options import StoreOption, is_address, store_name
from tegakari.extras import needs_extra

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
    if is_address(name):
        serve_service(httpx.AsyncClient(**http_arguments(name, None, ANSWER_SECONDS)))
    else:
        serve_store(Path(name))
