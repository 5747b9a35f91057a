"""The routes of knockouts: asked for, followed, cancelled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody, PathParameter, QueryParameter
from litestar.response import Stream

from tegakari.schemas.errors import CancelledJobError
from tegakari.schemas.jobs import FINAL, JobProgress, KnockoutJob
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.service.engine.jobs import ActiveJob, Jobs
from tegakari.service.http.disconnect import while_connected
from tegakari.service.http.problems import documented
from tegakari.service.routes.inference import NO_STORE
from tegakari.service.routes.inference import STATUSES as LIVE_STATUSES
from tegakari.store import Run, Store

WAIT_SECONDS = 10.0
LOOK_SECONDS = 0.1
"""between two looks at a job whose progress is followed"""
ALIVE_SECONDS = 15.0
"""between two signs of life where there is no progress"""

JobId = Annotated[str, PathParameter(description="id of the knockout")]
Wait = Annotated[
    float, QueryParameter(description="seconds to wait for the answer before a job is given instead", ge=0, le=60)
]


@post(
    "/knockouts",
    operation_id="knockOut",
    summary="Knock features out",
    status_code=200,
    responses={
        **documented(*LIVE_STATUSES, 507),
        200: ResponseSpec(KnockoutResult, description="The answer.", generate_examples=False),
        202: ResponseSpec(KnockoutJob, description="It goes on as a job.", generate_examples=False),
    },
    cache_control=NO_STORE,
    live=True,
)
async def knock_out(
    opened: NamedDependency[Run],
    store: NamedDependency[Store],
    jobs: NamedDependency[Jobs],
    data: JSONBody[KnockoutSettings],
    request: Request[Any, Any, Any],
    wait: Wait = WAIT_SECONDS,
) -> Response[KnockoutResult | KnockoutJob]:
    """Take features out of documents and say what becomes of their label.

    The same question is answered once: later, from the store; at the same time, for all who ask. An answer that takes
    longer than `wait` comes as a job (202), which goes on; `Location` says where. A client that goes away before that
    ends the work.
    """
    id_, settings, stored = await asyncio.to_thread(_look_up, store.directory, opened, data)
    if stored is None:
        active = jobs.start(id_, opened, settings)
        if not await while_connected(request, jobs.wait(active, wait)):
            return Response(active.job, status_code=202, headers={"Location": f"/v1/knockouts/{id_}"})
        stored = _result(active)
    return Response(stored, headers={"Content-Location": f"/v1/knockouts/{id_}"})


def _look_up(store: Path, run: Run, asked: KnockoutSettings) -> tuple[str, KnockoutSettings, KnockoutResult | None]:
    from tegakari.analyses.knockout import knockout_key, resolve, stored_knockout

    settings = resolve(run, asked)
    return knockout_key(run, settings), settings, stored_knockout(store, run, settings)


def _result(active: ActiveJob) -> KnockoutResult:
    if active.error:
        raise active.error
    if active.job.result is None:  # it has ended, and not of itself
        raise CancelledJobError("somebody cancelled it meanwhile", fix="ask again")
    return active.job.result


@get(
    "/knockouts/{knockout:str}",
    operation_id="getKnockout",
    summary="A knockout",
    responses=documented(400, 404, 500),
    cache_control=NO_STORE,
    live=True,
)
async def get_knockout(jobs: NamedDependency[Jobs], knockout: JobId) -> KnockoutJob:
    """State of a knockout, and its result once it is done."""
    return await asyncio.to_thread(jobs.find, knockout)


@delete(
    "/knockouts/{knockout:str}",
    operation_id="cancelKnockout",
    summary="Cancel a knockout",
    status_code=200,
    responses=documented(400, 404, 500),
    live=True,
)
async def cancel_knockout(jobs: NamedDependency[Jobs], knockout: JobId) -> KnockoutJob:
    """End a knockout that waits or runs. One that has ended stays as it is: `state` says how."""
    return await jobs.cancel(knockout)


@get(
    "/knockouts/{knockout:str}/events",
    operation_id="followKnockout",
    summary="Progress of a knockout",
    responses={
        200: ResponseSpec(
            str,
            media_type="text/event-stream",
            description="`progress` events, then one named as the state that the knockout ends in; the data of each is "
            "a JobProgress in JSON.",
            generate_examples=False,
        ),
        **documented(400, 404, 500),
    },
    cache_control=NO_STORE,
    live=True,
)
async def follow_knockout(jobs: NamedDependency[Jobs], knockout: JobId) -> Stream:
    """Progress as Server-Sent Events, until the knockout ends; of one that has ended, the last event."""
    active = jobs.active(knockout)
    if active is None:
        found = await asyncio.to_thread(jobs.find, knockout)
        return _stream(_last(found))
    return _stream(_followed(active))


def _stream(events: AsyncIterator[bytes]) -> Stream:
    # A proxy that holds answers back until they are complete would hide the progress.
    return Stream(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _last(job: KnockoutJob) -> AsyncIterator[bytes]:
    yield _event(job.state, job)


async def _followed(active: ActiveJob) -> AsyncIterator[bytes]:
    said: tuple[object, ...] = ()
    said_at = time.monotonic()
    while (job := active.job).state not in FINAL:
        now = time.monotonic()
        if (job.state, job.done, job.total) != said:
            said, said_at = (job.state, job.done, job.total), now
            yield _event("progress", job)
        elif now - said_at >= ALIVE_SECONDS:
            said_at = now
            yield b": still there\n\n"
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await active.ended.wait()
        except TimeoutError:
            continue
    yield _event(job.state, job)


def _event(name: str, job: KnockoutJob) -> bytes:
    data = msgspec.json.encode(JobProgress(id=job.id, state=job.state, done=job.done, total=job.total))
    return f"event: {name}\ndata: ".encode() + data + b"\n\n"


OF_A_RUN = (knock_out,)
HANDLERS = (get_knockout, cancel_knockout, follow_knockout)
