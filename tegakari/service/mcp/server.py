"""The MCP server: it lists the tools and calls them, whatever the transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import httpx
import mcp_types as types
import msgspec
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError

from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import NotReadyError, TegakariError
from tegakari.schemas.problem import Problem
from tegakari.service.http.problems import problem_of
from tegakari.service.mcp.calls import knockout_response, response_to
from tegakari.service.mcp.operations import ApiRequest, Operation, operations_of
from tegakari.service.mcp.results import json_text, shown_result
from tegakari.service.mcp.tools import DESCRIPTIONS, INSTRUCTIONS, TOOLS, Tool
from tegakari.version import __version__

Context: TypeAlias = ServerRequestContext[Any, Any]

Connect = Callable[[Context], AbstractAsyncContextManager[httpx.AsyncClient]]
"""Gives a client of the API with the rights of a message's sender."""

_BY_NAME = {tool.name: tool for tool in TOOLS}
_DOCUMENT = ApiRequest("GET", "/schema/openapi.json", {}, None)


def tool_server(connect: Connect) -> Server[Any]:
    """The MCP server of an API.

    Args:
        connect: gives the API.
    """
    caller = _ToolCaller(connect)
    return Server(
        "tegakari",
        version=__version__,
        title="tegakari",
        instructions=INSTRUCTIONS,
        on_list_tools=caller.list_tools,
        on_call_tool=caller.call_tool,
        get_tool_input_schema=lambda _: None,  # no tool has arguments in headers
    )


class _ToolCaller:
    """Lists tools and calls them. The operations of the API are read once, with the first message that needs them."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._operations: Mapping[str, Operation] | None = None
        self._reading = asyncio.Lock()

    async def list_tools(self, context: Context, _: object) -> types.ListToolsResult:
        """The tools whose operations the API has; that of another version may lack some."""
        try:
            async with self._connect(context) as client:
                operations = await self._operations_of(client)
        except TegakariError as error:
            raise MCPError(types.INTERNAL_ERROR, _problem_text(problem_of(error))) from error
        tools = [_listed(tool, operations[tool.operation]) for tool in TOOLS if tool.operation in operations]
        return types.ListToolsResult(tools=tools)

    async def call_tool(self, context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        """The result of a tool, or the problem of its request as an error of the tool, which an agent can read."""
        tool = _BY_NAME.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"no tool {params.name!r}; tools: {', '.join(_BY_NAME)}")
        try:
            async with self._connect(context) as client:
                response = await self._response(client, tool, params.arguments or {}, context)
            if not response.is_success:
                return _error(_problem_of(response), response.headers.get("retry-after"))
            shown = shown_result(decode_json(response.content, dict), tool)
        except TegakariError as error:
            return _error(problem_of(error))
        return types.CallToolResult(content=[types.TextContent(text=json_text(shown))], structured_content=shown)

    async def _response(
        self, client: httpx.AsyncClient, tool: Tool, arguments: Mapping[str, Any], context: Context
    ) -> httpx.Response:
        operation = (await self._operations_of(client)).get(tool.operation)
        if operation is None:
            raise NotReadyError(f"the service has no operation for {tool.name}", fix="update the service")
        chosen = {name: value for name, value in arguments.items() if value is not None}
        request = operation.request({**tool.defaults, **chosen})
        if tool.name == "knockout":
            return await knockout_response(client, request, context.session.report_progress)
        return await response_to(client, request)

    async def _operations_of(self, client: httpx.AsyncClient) -> Mapping[str, Operation]:
        async with self._reading:
            if self._operations is None:
                response = await response_to(client, _DOCUMENT)
                try:
                    self._operations = operations_of(decode_json(response.content, dict[str, Any]))
                except (msgspec.DecodeError, KeyError) as error:
                    raise NotReadyError(
                        f"{client.base_url} has no OpenAPI document (status {response.status_code})",
                        fix="is this a tegakari service?",
                    ) from error
        return self._operations


def _listed(tool: Tool, operation: Operation) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=operation.input_schema(tool.defaults, DESCRIPTIONS),
        annotations=types.ToolAnnotations(
            read_only_hint=tool.name != "knockout",  # which stores its result
            destructive_hint=False,
            idempotent_hint=True,
            open_world_hint=False,
        ),
    )


def _problem_of(response: httpx.Response) -> Problem:
    """The problem of a response; a proxy between here and the service may have sent something else."""
    try:
        return decode_json(response.content, Problem)
    except msgspec.DecodeError:
        return Problem(
            type="about:blank", title=response.reason_phrase, status=response.status_code, detail=response.text[:500]
        )


def _error(problem: Problem, retry_after: str | None = None) -> types.CallToolResult:
    content = {name: value for name, value in msgspec.to_builtins(problem).items() if value is not None}
    text = _problem_text(problem)
    if retry_after is not None:
        content["retry_after"] = retry_after
        text += f"\nretry after: {retry_after} s"
    return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=content, is_error=True)


def _problem_text(problem: Problem) -> str:
    """A problem in lines, as the command line prints errors."""
    lines = [f"{problem.title}: {problem.detail}"]
    lines += [f"field: {problem.field}"] if problem.field else []
    lines += [f"fix: {problem.fix}"] if problem.fix else []
    return "\n".join(lines)
