"""A real MCP client, that of the SDK, over HTTP and over stdio."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx2
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

MODES = ("2026-07-28", "legacy")
"""Ways to connect: without sessions, as the protocol has it since then, and with the handshake of older versions."""


class Outcome(NamedTuple):
    """The outcome of a tool's call."""

    failed: bool
    text: str
    structured: Any


@asynccontextmanager
async def http_agent(url: str, key: str | None = None, mode: str = MODES[0]) -> AsyncIterator[Client]:
    """A client of a service's /mcp."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


def stdio_agent(store: str, mode: str = MODES[0], **environment: str) -> Client:
    """A client that starts `tegakari mcp`, to be entered."""
    arguments = ["-c", "from tegakari.cli import main; main()", "mcp", "--store", store]
    parameters = StdioServerParameters(command=sys.executable, args=arguments, env={**os.environ, **environment})
    return Client(parameters, mode=mode)


async def call(client: Client, tool: str, progress: Any = None, **arguments: Any) -> Outcome:
    """Call a tool; its text is its structured content as JSON, or the lines of a problem."""
    result = await client.call_tool(tool, arguments, progress_callback=progress)
    (content,) = result.content
    return Outcome(result.is_error, content.text, result.structured_content)  # pyright: ignore
