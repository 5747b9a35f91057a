"""Routes of knockouts: start one, list them, read the state of one, follow its progress, cancel it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, get_args

import msgspec
from litestar import Request, Response, delete, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody, PathParameter, QueryParameter
from litestar.response import Stream

from tegakari.schemas.api import Page
from tegakari.schemas.config import NAME_PATTERN
from tegakari.schemas.errors import CancelledJobError
from tegakari.schemas.jobs import FINAL, JobProgress, JobState, KnockoutJob, KnockoutRow
from tegakari.schemas.knockout import KnockoutSettings
from tegakari.service.engine.active_jobs import ActiveJob
from tegakari.service.engine.forward_to_models import client_of
from tegakari.service.engine.jobs import Jobs
from tegakari.service.engine.knockout_list import list_knockouts as list_of_knockouts
from tegakari.service.engine.knockout_requests import requested_knockout
from tegakari.service.http.disconnect import while_connected
from tegakari.service.http.etags import open_run
from tegakari.service.http.operations import MODEL_PROBLEMS, NO_STORE, READ_PROBLEMS, RUNS_MODELS, run_models
from tegakari.service.http.parameters import Cursor, OpenRun, PageSize, optional
from tegakari.service.http.problems import documented
from tegakari.store import Store

WAIT_SECONDS = 10.0
KEEPALIVE_SECONDS = 15.0
"""between two comments in a stream without progress, so that proxies keep it open"""

KNOCKOUT_PATH = "/knockouts/{knockout:str}"

RunFilter = Annotated[str | None, optional("only knockouts of this run", type="string", pattern=NAME_PATTERN)]
StateFilter = Annotated[
    JobState | None, optional("only knockouts in this state", "state", type="string", enum=list(get_args(JobState)))
]
JobId = Annotated[str, PathParameter(description="id of the knockout")]
Wait = Annotated[
    float, QueryParameter(description="seconds to wait for the result before a job is returned instead", ge=0, le=60)
]


@run_models(
    "/knockouts",
    "knockOut",
    "Knock features out",
    problems=(*MODEL_PROBLEMS, 507),
    responses={
        200: ResponseSpec(KnockoutJob, description="The knockout with its result.", generate_examples=False),
        202: ResponseSpec(KnockoutJob, description="The knockout, which goes on.", generate_examples=False),
    },
)
async def knock_out(
    run: OpenRun,
    jobs: NamedDependency[Jobs],
    store: NamedDependency[Store],
    data: JSONBody[KnockoutSettings],
    request: Request[Any, Any, Any],
    wait: Wait = WAIT_SECONDS,
) -> Response[KnockoutJob]:
    """Ablate features in documents and measure what becomes of their label.

    Requests with the same settings share one computation: simultaneous ones one job, later ones the stored result. If
    the result takes longer than `wait`, the response is 202 and the knockout goes on; `Location` is its path. If the
    client disconnects before that, it is cancelled.
    """
    knockout = await asyncio.to_thread(requested_knockout, run, store.directory, data)
    active = jobs.start(knockout, client_of(request.scope))
    if not await while_connected(request, jobs.wait(active, wait)):
        return Response(active.job, status_code=202, headers={"Location": f"/v1/knockouts/{knockout.id}"})
    return Response(_finished(active), headers={"Content-Location": f"/v1/knockouts/{knockout.id}"})


def _finished(active: ActiveJob) -> KnockoutJob:
    if active.error:
        raise active.error
    if active.job.result is None:  # ended without result or error
        raise CancelledJobError("the job was cancelled by another request", fix="repeat the request")
    return active.job


@get(
    "/knockouts",
    operation_id="listKnockouts",
    summary="Knockouts",
    responses=documented(*READ_PROBLEMS),
    cache_control=NO_STORE,
    opt={RUNS_MODELS: True},
)
async def list_knockouts(
    jobs: NamedDependency[Jobs],
    store: NamedDependency[Store],
    run: RunFilter = None,
    job_state: StateFilter = None,  # Litestar has a `state` of its own
    limit: PageSize = 50,
    cursor: Cursor = None,
) -> Page[KnockoutRow]:
    """All knockouts, the last one first: those that wait or run, those that ended without a result, stored results."""
    if run is not None:
        await asyncio.to_thread(open_run, store, run, field="run")
    return await asyncio.to_thread(
        list_of_knockouts, store.directory, jobs.current(), run=run, state=job_state, limit=limit, cursor=cursor
    )


@get(
    KNOCKOUT_PATH,
    operation_id="getKnockout",
    summary="A knockout",
    responses=documented(*READ_PROBLEMS),
    cache_control=NO_STORE,
    opt={RUNS_MODELS: True},
)
async def get_knockout(jobs: NamedDependency[Jobs], knockout: JobId) -> KnockoutJob:
    """State of a knockout, and its result once it is done."""
    return await asyncio.to_thread(jobs.find, knockout)


@delete(
    KNOCKOUT_PATH,
    operation_id="cancelKnockout",
    summary="Cancel a knockout",
    status_code=200,
    responses=documented(*READ_PROBLEMS),
    opt={RUNS_MODELS: True},
)
async def cancel_knockout(jobs: NamedDependency[Jobs], knockout: JobId) -> KnockoutJob:
    """Cancel a queued or running knockout. One that has ended stays as it is; `state` says how it ended."""
    return await jobs.cancel(knockout)


@get(
    f"{KNOCKOUT_PATH}/events",
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
        **documented(*READ_PROBLEMS),
    },
    cache_control=NO_STORE,
    opt={RUNS_MODELS: True},
)
async def follow_knockout(jobs: NamedDependency[Jobs], knockout: JobId) -> Stream:
    """Progress as Server-Sent Events until the knockout ends; of one that has ended, the last event only."""
    await asyncio.to_thread(jobs.find, knockout)  # a knockout that does not exist is a problem, not an event
    # The header stops proxies from holding the stream back until it is complete.
    return Stream(_events(jobs.watch(knockout)), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _events(states: AsyncIterator[KnockoutJob]) -> AsyncIterator[bytes]:
    sent: tuple[object, ...] = ()
    sent_at = time.monotonic()
    async for job in states:
        now = time.monotonic()
        if job.state in FINAL:
            yield _event(job.state, job)
            return
        if (job.state, job.done, job.total) != sent:
            sent, sent_at = (job.state, job.done, job.total), now
            yield _event("progress", job)
        elif now - sent_at >= KEEPALIVE_SECONDS:
            sent_at = now
            yield b": keep-alive\n\n"


def _event(name: str, job: KnockoutJob) -> bytes:
    data = msgspec.json.encode(JobProgress(id=job.id, state=job.state, done=job.done, total=job.total))
    return f"event: {name}\ndata: ".encode() + data + b"\n\n"


RUN_HANDLERS = (knock_out,)
HANDLERS = (list_knockouts, get_knockout, cancel_knockout, follow_knockout)
