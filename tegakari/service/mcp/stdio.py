"""MCP over stdin and stdout, for an agent on this machine: over a store here, or over a service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from mcp.server.stdio import stdio_server

from tegakari.service.mcp.server import Context, tool_server
from tegakari.service.observe.logs import set_up_logs
from tegakari.store.processes import keep_working_directory_off_path


def serve_service(client: httpx.AsyncClient) -> None:
    """Serve the tools over a service until stdin ends.

    Args:
        client: of the service, with its key.
    """
    asyncio.run(_serve(client))


def serve_store(store: Path) -> None:
    """Serve the tools over the runs of a directory until stdin ends: the API runs in this process, without keys."""
    set_up_logs("off")
    keep_working_directory_off_path()
    asyncio.run(_serve_store(store))


async def _serve_store(store: Path) -> None:
    from tegakari.service.app import create_app  # not needed over a service, and slow to import

    app = create_app(store)
    transport = httpx.ASGITransport(app)  # pyright: ignore
    headers = {"accept-encoding": "identity"}
    async with app.lifespan():
        await _serve(httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers, timeout=None))


async def _serve(client: httpx.AsyncClient) -> None:
    @asynccontextmanager
    async def connect(_: Context) -> AsyncIterator[httpx.AsyncClient]:
        yield client

    server = tool_server(connect)
    async with client, stdio_server() as (read_stream, write_stream):
        await server.run(read_stream, write_stream, server.create_initialization_options())
