"""Requests of tools to the API, with their responses; and the request of a knockout, which is waited for in steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import anyio
import httpx
import msgspec

from tegakari.schemas.errors import NotReadyError
from tegakari.schemas.jobs import JobProgress
from tegakari.service.mcp.operations import ApiRequest

STEP_SECONDS = 5.0
"""Time that one request waits for a knockout; between two, its progress is reported."""

MAX_WAIT = 60.0
"""Seconds that a call may wait for a knockout, as in the API."""

Report = Callable[[float, float | None, str], Awaitable[None]]
"""Reports progress: steps that are done, all steps, and a message."""


async def response_to(client: httpx.AsyncClient, request: ApiRequest) -> httpx.Response:
    """The response of the API, which may be a problem.

    Where the API is in this process, a call that is cancelled cancels its request once, as a closed connection does;
    the cancellation of a scope of anyio would be repeated at every wait of the clean-up.

    Raises:
        NotReadyError: the service cannot be reached, or does not answer in time.
    """
    content = None if request.body is None else msgspec.json.encode(request.body)
    headers = {} if content is None else {"content-type": "application/json"}
    sending = asyncio.ensure_future(
        client.request(request.method, request.path, params=request.query, content=content, headers=headers)
    )
    try:
        await asyncio.wait({sending})
    finally:
        sending.cancel()
    try:
        return sending.result()
    except httpx.TransportError as error:
        raise NotReadyError(
            f"{client.base_url} does not answer: {error or type(error).__name__}",
            fix="is the service running, and is the address right?",
        ) from error


async def knockout_response(client: httpx.AsyncClient, request: ApiRequest, report: Report) -> httpx.Response:
    """The response to a knockout's request, after as many steps as its `wait` has; a cancelled call cancels the job."""
    try:
        seconds = float(request.query.get("wait", 0))
    except ValueError:
        return await response_to(client, request)  # which says what is wrong
    if not 0 <= seconds <= MAX_WAIT:
        return await response_to(client, request)
    end = time.monotonic() + seconds
    job: JobProgress | None = None
    try:
        while True:
            left = max(0.0, end - time.monotonic())
            step = {**request.query, "wait": str(min(left, STEP_SECONDS))}
            response = await response_to(client, request._replace(query=step))
            if response.status_code != httpx.codes.ACCEPTED or left <= STEP_SECONDS:
                return response
            job = msgspec.json.decode(response.content, type=JobProgress)
            await report(job.done, job.total, job.state)
    except asyncio.CancelledError:
        if job is not None:  # until a response names the job, the API cancels it with the request
            with anyio.CancelScope(shield=True):
                await response_to(client, ApiRequest("DELETE", f"/v1/knockouts/{job.id}", {}, None))
        raise
