"""Knockouts as jobs: requests with the same settings share one; the state of a job outlives the server."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from tegakari.analyses.engine.cost import Cost
from tegakari.schemas.analysis_kinds import KNOCKOUT_ANALYSIS
from tegakari.schemas.errors import BusyError, DeadlineError, InterruptedJobError, NotFoundError, TegakariError
from tegakari.schemas.jobs import FINAL, JobState, KnockoutJob
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.schemas.problem import Problem
from tegakari.schemas.progress import Progress
from tegakari.service.engine.cost_limits import CostLimits
from tegakari.service.engine.model_requests import BatchWork, Request
from tegakari.service.engine.queue import ModelQueue
from tegakari.service.engine.work_progress import WorkProgress
from tegakari.service.http.problems import problem_of
from tegakari.service.observe import metrics
from tegakari.store import Run
from tegakari.store.disk.job_files import JobFiles, Retention
from tegakari.store.results import analysis_by_key

if TYPE_CHECKING:
    from tegakari.analyses.engine.model_loader import ModelLoader

MAX_ACTIVE_BYTES = 2**25
"""Settings of the jobs of one client that wait or run; further jobs are refused."""

UNRECORDED_JOBS = 32
"""Ended jobs in memory: those whose state is being written, or cannot be."""

COLLECTION_SECONDS = 60.0
"""Time between two removals of old states."""

log = structlog.get_logger()


class Knockout(NamedTuple):
    """A requested knockout."""

    id: str
    """key of the stored result"""
    store: Path
    run: Run
    settings: KnockoutSettings
    """resolved"""
    cost: Cost
    documents: str
    """hash of what selects the documents: knockouts on the same ones share passes"""
    size: int
    """bytes of the settings"""


def _compute(load_models: ModelLoader, knockouts: Sequence[Knockout], progress: Progress) -> list[KnockoutResult]:
    from tegakari.analyses.knockout import compute_knockouts

    store, run = knockouts[0].store, knockouts[0].run
    return compute_knockouts(store, run, load_models, [knockout.settings for knockout in knockouts], progress=progress)


_KNOCKOUT_WORK = BatchWork(_compute, key=lambda knockout: knockout.documents, long=True)


class JobLimits(NamedTuple):
    """Limits of jobs; keys of `[service]`."""

    seconds: float
    """from acceptance to the result"""
    retention: Retention


class ActiveJob:
    """A job of this process that is queued or running."""

    def __init__(self, job: KnockoutJob, client: str, size: int) -> None:
        self._job = job
        self.client = client
        self.size = size
        self.progress = WorkProgress()
        self.waiting = 0
        """requests that wait for its result"""
        self.detached = False
        """whether it goes on without a waiting request, because a client was told its id"""
        self.looked_up = asyncio.Event()
        """set once the store was searched for its result"""
        self.ended = asyncio.Event()
        self.error: Exception | None = None
        self.task: asyncio.Task[None] | None = None

    def end(self, state: JobState, result: KnockoutResult | None, problem: Problem | None) -> None:
        """Record its last state."""
        self.end_as(msgspec.structs.replace(self._current(), state=state, result=result, problem=problem))

    def end_as(self, job: KnockoutJob) -> None:
        """Take the last state of a job whose result is stored, so that every response about it is the same."""
        self._job = job
        self.looked_up.set()
        self.ended.set()

    @property
    def job(self) -> KnockoutJob:
        return self._job if self.ended.is_set() else self._current()

    def _current(self) -> KnockoutJob:
        state: JobState = "queued" if self.progress.total is None else "running"
        if self.progress.loading:
            state = "loading"
        return msgspec.structs.replace(self._job, state=state, done=self.progress.done, total=self.progress.total)


class Jobs:
    """The jobs of one store. Used from one event loop; files are written by one thread, in order."""

    def __init__(self, store: Path, model_queue: ModelQueue, cost_limits: CostLimits, limits: JobLimits) -> None:
        """Start without jobs; no file is read.

        Args:
            store: the store's directory.
            model_queue: runs the work.
            cost_limits: of a job.
            limits: of its time, and of what is kept of it.
        """
        self._store = store
        self._files = JobFiles(store)
        self._model_queue = model_queue
        self._cost_limits = cost_limits
        self._limits = limits
        self._active: dict[str, ActiveJob] = {}
        self._unrecorded: OrderedDict[str, KnockoutJob] = OrderedDict()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="jobs")
        self._collected = 0.0
        self._closing = False

    def mark_interrupted(self) -> None:
        """At the start of a server: mark jobs of an earlier one as interrupted, and remove old states."""
        problem = problem_of(_interrupted("the server was killed"))
        for job in self._files.unfinished():
            self._write(msgspec.structs.replace(job, state="interrupted", problem=problem))
        self._collect()

    def start(self, knockout: Knockout, client: str) -> ActiveJob:
        """The active job of a knockout; a new one if there is none.

        Raises:
            BusyError: the client has too many jobs with too large settings.
        """
        id_ = knockout.id
        if id_ in self._active:
            return self._active[id_]
        size = knockout.size + sum(active.size for active in self._active.values() if active.client == client)
        if size > MAX_ACTIVE_BYTES:
            raise BusyError(
                f"the settings of the jobs that this client waits for have more than {MAX_ACTIVE_BYTES:,} bytes",
                fix="send the next knockout when one has ended, or knock out in documents of the run instead of texts",
            )
        created = datetime.now(UTC).isoformat(timespec="seconds")
        job = KnockoutJob(
            id=id_,
            state="queued",
            done=0,
            total=None,
            run=knockout.run.name,
            settings=knockout.settings,
            created=created,
        )
        active = self._active[id_] = ActiveJob(job, client, knockout.size)
        metrics.JOBS_ACTIVE.set(len(self._active))
        self._unrecorded.pop(id_, None)
        active.task = asyncio.create_task(self._work(active, knockout))
        return active

    async def wait(self, active: ActiveJob, seconds: float) -> bool:
        """Whether a job ends within a time, which begins once its result was looked up in the store.

        A job without waiting requests is cancelled, unless a client was told its id.
        """
        active.waiting += 1
        try:
            await active.looked_up.wait()
            async with asyncio.timeout(seconds):
                await active.ended.wait()
        except TimeoutError:
            active.detached = not active.ended.is_set()
        except asyncio.CancelledError:
            if active.waiting == 1 and not active.detached:
                self._cancel(active)
            raise
        finally:
            active.waiting -= 1
        return active.ended.is_set()

    def find(self, id_: str) -> KnockoutJob:
        """A job, ended or not. Reads files.

        Raises:
            NotFoundError: no job has the id.
        """
        active = self._active.get(id_)
        if active:
            return active.job
        if unrecorded := self._unrecorded.get(id_):
            return unrecorded
        job = self._stored_job(id_) or self._files.read(id_)
        if job is None:
            raise NotFoundError(f"no knockout {id_!r}", field="id", fix="use the `id` of a response with status 202")
        return job

    def current(self) -> dict[str, KnockoutJob]:
        """Jobs of this process by id: those that are queued or running, and those whose end is not recorded yet."""
        return {**self._unrecorded, **{id_: active.job for id_, active in self._active.items()}}

    def active(self, id_: str) -> ActiveJob | None:
        return self._active.get(id_)

    async def cancel(self, id_: str) -> KnockoutJob:
        """Cancel a queued or running job; one that has ended stays as it is.

        Raises:
            NotFoundError: no job has the id.
        """
        active = self._active.get(id_)
        if active is None:
            return await asyncio.to_thread(self.find, id_)
        self._cancel(active)
        return active.job

    async def close(self) -> None:
        """Interrupt queued and running jobs, and record all states."""
        self._closing = True
        tasks = [active.task for active in self._active.values() if active.task]
        for active in list(self._active.values()):
            self._cancel(active)
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._writer.shutdown)

    def _cancel(self, active: ActiveJob) -> None:
        if self._closing:
            self._end(active, "interrupted", error=_interrupted("the server was stopped"))
        else:
            self._end(active, "cancelled")
        active.progress.cancel()
        if active.task:
            active.task.cancel()

    async def _work(self, active: ActiveJob, knockout: Knockout) -> None:
        """Read the result from the store or compute it.

        The job is active before the look-up: later requests join it, so that a result is never computed twice.
        """
        try:
            stored = await asyncio.to_thread(self._stored_job, knockout.id)
            metrics.record_lookup("knockout", hit=stored is not None)
            if stored is not None:
                if not active.ended.is_set():  # cancelled meanwhile
                    active.end_as(stored)
                    self._leave(active)
                return
            try:
                request = self._model_queue.accept(
                    knockout.run,
                    _KNOCKOUT_WORK,
                    knockout,
                    client=active.client,
                    tokens=self._cost_limits.tokens_of_job(knockout.cost),
                    progress=active.progress,
                )
            except TegakariError as error:  # refused: the client has its reason, and the store no trace of the request
                self._end(active, "failed", error=error, recorded=False)
                return
            await self._compute(active, request)
        except TegakariError as error:
            self._end(active, "failed", error=error)
        except Exception as error:
            log.exception("unhandled", job=knockout.id)
            self._end(active, "failed", error=error)

    async def _compute(self, active: ActiveJob, request: Request[Knockout, KnockoutResult]) -> None:
        """Record the job, so that a client that is told its id finds it, and wait for the result."""
        try:
            await asyncio.wrap_future(self._writer.submit(self._write, active.job))
            active.looked_up.set()
            result = await self._model_queue.result_of(request, deadline=self._limits.seconds)
            self._end(active, "done", result=result)
        except DeadlineError:
            reason = f"it had no result within {self._limits.seconds:g} s, the time in the queue included"
            self._end(active, "interrupted", error=_interrupted(reason))
        finally:
            request.progress.cancel()  # no effect on finished work

    def _stored_job(self, id_: str) -> KnockoutJob | None:
        """A knockout whose result is stored."""
        stored = analysis_by_key(self._store, KNOCKOUT_ANALYSIS, id_)
        if stored is None:
            return None
        result = stored.result(KNOCKOUT_ANALYSIS)
        return KnockoutJob(
            id=id_,
            state="done",
            done=result.documents,
            total=result.documents,
            run=result.run,
            settings=result.settings,
            created=stored.manifest.created,
            result=result,
        )

    def _end(
        self,
        active: ActiveJob,
        state: JobState,
        *,
        result: KnockoutResult | None = None,
        error: Exception | None = None,
        recorded: bool = True,
    ) -> None:
        """End a job; later ends are ignored. It is found in this process until its state is written."""
        if active.ended.is_set():
            return
        active.error = error
        active.end(state, result, problem_of(error) if error else None)
        job = self._leave(active)
        if not recorded:
            return
        self._unrecorded[job.id] = job
        while len(self._unrecorded) > UNRECORDED_JOBS:
            self._unrecorded.popitem(last=False)
        written = asyncio.wrap_future(self._writer.submit(self._write, job))
        written.add_done_callback(lambda future: self._forget(job) if future.result() else None)

    def _leave(self, active: ActiveJob) -> KnockoutJob:
        """Count a job that has ended, which is no longer active."""
        job = active.job
        del self._active[job.id]
        metrics.JOBS_ACTIVE.set(len(self._active))
        metrics.JOBS_ENDED.labels(job.state).inc()
        return job

    def _forget(self, job: KnockoutJob) -> None:
        """A state that was written need not stay in memory; the job may have been started again meanwhile."""
        if self._unrecorded.get(job.id) is job:
            del self._unrecorded[job.id]

    # Called in the thread that writes, one call after the other, and at the start.

    def _write(self, job: KnockoutJob) -> bool:
        """Write the state of a job; whether a reader of the store finds it. Results lie with the analyses."""
        try:
            if job.state == "done":
                self._files.remove(job.id)
                return analysis_by_key(self._store, KNOCKOUT_ANALYSIS, job.id) is not None
            self._files.write(job)
        except OSError as error:
            log.warning("job not stored", id=job.id, reason=error.strerror)
            return False
        if job.state in FINAL and time.monotonic() - self._collected > COLLECTION_SECONDS:
            self._collect()
        return True

    def _collect(self) -> None:
        self._collected = time.monotonic()
        for path in self._files.expired(self._limits.retention):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _interrupted(reason: str) -> InterruptedJobError:
    return InterruptedJobError(f"the job was interrupted: {reason}", fix="repeat the request: it starts the job again")
