"""Knockouts as jobs: requests with the same settings share one, on all servers of a store; states outlive them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

import msgspec
import structlog

from tegakari.schemas.errors import BusyError, DeadlineError, NotFoundError, TegakariError
from tegakari.schemas.jobs import FINAL, JobProgress, JobState, KnockoutJob
from tegakari.schemas.knockout import KnockoutResult
from tegakari.schemas.progress import Progress
from tegakari.service.engine.active_jobs import ActiveJob, Knockout
from tegakari.service.engine.cost_limits import CostLimits
from tegakari.service.engine.job_records import JobRecords
from tegakari.service.engine.job_states import JobStates, error_of, interrupted, with_progress
from tegakari.service.engine.model_requests import BatchWork, Request
from tegakari.service.engine.other_servers import FOLLOW_SECONDS, HandOver, OtherServers
from tegakari.service.engine.queue import ModelQueue
from tegakari.service.engine.replica import Replica
from tegakari.service.http.problems import problem_of
from tegakari.service.observe import metrics
from tegakari.store.disk.job_claims import JobClaims
from tegakari.store.disk.job_files import JobFiles, Retention
from tegakari.store.disk.replica_leases import Message, ReplicaLease

if TYPE_CHECKING:
    from tegakari.analyses.engine.model_loader import ModelLoader

P = ParamSpec("P")
T = TypeVar("T")

MAX_ACTIVE_BYTES = 2**25
"""Settings of the jobs of one client that wait or run; further jobs are refused."""

UNRECORDED_JOBS = 32
"""Ended jobs in memory: those whose state is being written, or cannot be."""

POLL_SECONDS = 0.1
"""Time between two looks at the progress of a job of this server."""

DRAIN_SECONDS = 4.0
"""Time that jobs have to finish once the server is told to stop, before other servers get them."""

MAX_HANDOVERS = 8
"""Servers that a job is handed over by: a job that makes its server stop must come to an end."""

log = structlog.get_logger()


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


class Jobs:
    """The jobs of one server of a store. Used from one event loop; files are written by one thread, in order."""

    def __init__(self, store: Path, model_queue: ModelQueue, cost_limits: CostLimits, limits: JobLimits) -> None:
        """Start without jobs; no file is read.

        Args:
            store: the store's directory.
            model_queue: runs the work.
            cost_limits: of a job.
            limits: of its time, and of what is kept of it.
        """
        self._store = store
        self._model_queue = model_queue
        self._cost_limits = cost_limits
        self._limits = limits
        self._active: dict[str, ActiveJob] = {}
        self._unrecorded: OrderedDict[str, KnockoutJob] = OrderedDict()
        self._files = JobFiles(store)
        self._lease = ReplicaLease(store)
        claims = JobClaims(store)
        self._states = JobStates(store, self._files, claims, self._lease)
        self._others = OtherServers(store, self._files, self._lease, self._states)
        self._records = JobRecords(
            store,
            files=self._files,
            claims=claims,
            lease=self._lease,
            states=self._states,
            retention=limits.retention,
        )
        self._replica = Replica(
            self._lease,
            self._states,
            progress=self._own_progress,
            on_message=partial(self._call_in_loop, self._receive),
            on_loss=partial(self._call_in_loop, self._lose_all),
        )
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="jobs")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def open(self) -> None:
        """At the start of a server: become one of the servers of the store, and interrupt jobs of dead ones."""
        self._loop = asyncio.get_running_loop()
        if self._store.is_dir():
            try:
                await asyncio.to_thread(self._replica.start)
            except OSError as error:
                log.warning("jobs are not shared with other servers", store=str(self._store), reason=error.strerror)
        await asyncio.to_thread(self.interrupt_abandoned)

    def interrupt_abandoned(self) -> None:
        """Interrupt jobs of servers that have died, and remove old states. Reads the states of all jobs."""
        self._states.interrupt_abandoned()
        self._states.interrupt_unclaimed()
        self._records.collect()

    def start(self, knockout: Knockout, client: str) -> ActiveJob:
        """The active job of a knockout; a new one if there is none.

        Raises:
            BusyError: the client has too many jobs with too large settings, or the server is being stopped.
        """
        id_ = knockout.id
        if id_ in self._active:
            return self._active[id_]
        if self._replica.draining:
            raise BusyError("the server is being stopped", fix="repeat the request, at another server or later")
        size = knockout.size + sum(active.size for active in self._active.values() if active.client == client)
        if size > MAX_ACTIVE_BYTES:
            raise BusyError(
                f"the settings of the jobs that this client waits for have more than {MAX_ACTIVE_BYTES:,} bytes",
                fix="send the next knockout when one has ended, or knock out in documents of the run instead of texts",
            )
        return self._start(knockout, client)

    def _start(self, knockout: Knockout, client: str) -> ActiveJob:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        job = KnockoutJob(
            id=knockout.id,
            state="queued",
            done=0,
            total=None,
            run=knockout.run.name,
            settings=knockout.settings,
            created=created,
        )
        active = self._active[knockout.id] = ActiveJob(job, client, knockout.size)
        metrics.JOBS_ACTIVE.set(len(self._active))
        self._unrecorded.pop(knockout.id, None)
        self._loop = asyncio.get_running_loop()
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
        return active.has_ended

    def find(self, id_: str) -> KnockoutJob:
        """A job of any server of the store, ended or not. Reads files.

        Raises:
            NotFoundError: no job has the id.
        """
        active = self._active.get(id_)
        if active:
            return active.job
        if unrecorded := self._unrecorded.get(id_):
            return unrecorded
        job = self._states.find(id_)
        if job is None:
            raise NotFoundError(f"no knockout {id_!r}", field="id", fix="use the `id` of a response with status 202")
        return job

    @property
    def draining(self) -> bool:
        """Whether the server is being stopped."""
        return self._replica.draining

    def current(self) -> dict[str, KnockoutJob]:
        """Jobs of this process by id: those that are queued or running, and those whose end is not recorded yet."""
        return {**self._unrecorded, **{id_: active.job for id_, active in self._active.items()}}

    async def watch(self, id_: str) -> AsyncIterator[KnockoutJob]:
        """A job again and again, until it has ended or this server is being stopped.

        Raises:
            NotFoundError: no job has the id.
        """
        job: KnockoutJob | None = None
        while job is None or job.state not in FINAL:
            if active := self._active.get(id_):
                job = active.job
                yield job
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await active.ended.wait()
                    job = active.job
                    if job.state in FINAL:
                        yield job
                continue
            if self._replica.draining:
                return
            progress = await asyncio.to_thread(self._states.progress, id_) if job else None
            if job and progress:
                job = with_progress(job, progress)
            else:
                job = await asyncio.to_thread(self.find, id_)
            yield job
            if job.state not in FINAL:
                await asyncio.sleep(FOLLOW_SECONDS)

    async def cancel(self, id_: str) -> KnockoutJob:
        """Cancel a queued or running job of any server; one that has ended stays as it is.

        Raises:
            NotFoundError: no job has the id.
        """
        active = self._active.get(id_)
        if active is not None and not active.elsewhere:
            self._cancel(active)
            return active.job
        await self._others.cancel(id_)
        # What this server has followed has ended there; it notices a little later.
        job = await asyncio.to_thread(self._states.find, id_) if active else None
        return job or await asyncio.to_thread(self.find, id_)

    async def drain(self) -> None:
        """Before the server stops: let jobs end for a while, then hand those that have not to other servers.

        Where there are no other servers, they go on until `close`.
        """
        self._replica.draining = True
        for active in [active for active in self._active.values() if active.elsewhere]:
            self._drop(active)
        tasks = [active.task for active in self._active.values() if active.task]
        if not tasks or not await asyncio.to_thread(self._others.receivers):
            return
        await asyncio.wait(tasks, timeout=DRAIN_SECONDS)
        receivers = await asyncio.to_thread(self._others.receivers)
        for active in list(self._active.values()):
            if receivers and active.claimed and active.handovers < MAX_HANDOVERS:
                receiver = min(receivers, key=lambda replica: receivers[replica])
                receivers[receiver] += 1
                await self._hand_over(active, receiver)

    async def close(self) -> None:
        """Interrupt queued and running jobs, and record all states."""
        self._replica.draining = self._closing = True
        await asyncio.gather(*self._tasks, return_exceptions=True)
        tasks = [active.task for active in self._active.values() if active.task]
        for active in list(self._active.values()):
            self._cancel(active)
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._writer.shutdown)
        await asyncio.to_thread(self._replica.stop)

    def _cancel(self, active: ActiveJob) -> None:
        if active.elsewhere:
            self._drop(active)
            return
        if self._closing:
            self._end(active, "interrupted", error=interrupted("the server was stopped"))
        else:
            self._end(active, "cancelled")
        active.stop()

    def _drop(self, active: ActiveJob) -> None:
        """Follow the job of another server no longer."""
        active.end_as(active.job)
        self._leave(active)
        active.stop()

    async def _work(self, active: ActiveJob, knockout: Knockout) -> None:
        """Read the result from the store or compute it.

        The job is active before the look-up: later requests join it, so that a result is never computed twice. It is
        claimed before it is computed, so that no other server computes it either.
        """
        try:
            stored = await asyncio.to_thread(self._states.stored, knockout.id)
            metrics.record_lookup("knockout", hit=stored is not None)
            if stored is None:
                stored = await self._claim(active)
            if stored is not None:
                if not active.ended.is_set():  # cancelled meanwhile
                    active.error = error_of(stored)
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
                self._end(active, "failed", error=error, recorded=active.handovers > 0)
                return
            await self._compute(active, request)
        except TegakariError as error:
            self._end(active, "failed", error=error)
        except Exception as error:
            log.exception("unhandled", job=knockout.id)
            self._end(active, "failed", error=error)

    async def _claim(self, active: ActiveJob) -> KnockoutJob | None:
        """Claim a job. If another server has it: follow it until it has ended there, and return its last state."""
        id_ = active.job.id
        while not active.claimed:
            owner = await self._in_order(self._records.claim, id_, self._replica.start)
            if owner is None or id_ in self._others.given:
                active.claimed = True
            elif ended := await self._others.follow(active, owner):
                return ended
        if handover := self._others.given.pop(id_, None):
            active.client, active.handovers, active.detached = handover.client, handover.handovers, True
        active.elsewhere = False
        ended = await asyncio.to_thread(self._states.stored, id_)  # before the claim another server may have ended it
        if ended is not None:
            await self._in_order(self._records.release, id_)
        return ended

    async def _compute(self, active: ActiveJob, request: Request[Knockout, KnockoutResult]) -> None:
        """Record the job, so that a client that is told its id finds it, and wait for the result."""
        try:
            await self._in_order(self._records.write, active.job)
            active.looked_up.set()
            result = await self._model_queue.result_of(request, deadline=self._limits.seconds)
            self._end(active, "done", result=result)
        except DeadlineError:
            reason = f"it had no result within {self._limits.seconds:g} s, the time in the queue included"
            self._end(active, "interrupted", error=interrupted(reason))
        finally:
            request.progress.cancel()  # no effect on finished work

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
            self._writer.submit(self._records.release, job.id)
            return
        self._unrecorded[job.id] = job
        while len(self._unrecorded) > UNRECORDED_JOBS:
            self._unrecorded.popitem(last=False)
        written = asyncio.wrap_future(self._writer.submit(self._records.write, job))
        written.add_done_callback(lambda future: self._forget(job) if future.result() else None)

    def _leave(self, active: ActiveJob) -> KnockoutJob:
        """Count a job that has ended, which is no longer active."""
        job = active.job
        del self._active[job.id]
        metrics.JOBS_ACTIVE.set(len(self._active))
        if job.state in FINAL:
            metrics.JOBS_ENDED.labels(job.state).inc()
        return job

    def _forget(self, job: KnockoutJob) -> None:
        """A state that was written need not stay in memory; the job may have been started again meanwhile."""
        if self._unrecorded.get(job.id) is job:
            del self._unrecorded[job.id]

    async def _in_order(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the thread that writes, after all that was submitted to it before."""
        return await asyncio.wrap_future(self._writer.submit(function, *args, **kwargs))

    # Jobs that pass between servers.

    async def _hand_over(self, active: ActiveJob, receiver: str) -> None:
        content = msgspec.json.encode(HandOver(active.client, active.handovers + 1))
        given = await self._in_order(self._records.hand_over, active.job.id, receiver, content)
        if given and not active.ended.is_set():
            log.info("job handed over", id=active.job.id, server=receiver)
            active.end_as(msgspec.structs.replace(active.job, state="queued", done=0, total=None))
            self._leave(active)
        if given:
            active.stop()

    async def _take_over(self, id_: str) -> None:
        """Begin a job that another server has handed over: it is claimed for this one already."""
        if id_ in self._active:  # it was followed
            return
        job = await asyncio.to_thread(self._files.read, id_)
        if job is None or job.state in FINAL:
            await self._in_order(self._records.release, id_)
            return
        try:
            knockout = await asyncio.to_thread(self._others.requested, job)
        except TegakariError as error:
            failed = msgspec.structs.replace(job, state="failed", problem=problem_of(error))
            await self._in_order(self._records.write, failed)
            return
        if id_ not in self._active:
            self._start(knockout, self._others.given[id_].client)

    def _call_in_loop(self, function: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(function, *arguments)

    def _receive(self, message: Message) -> None:
        active = self._active.get(message.job)
        if message.kind == "cancel" and active and not active.elsewhere:
            self._cancel(active)
        elif message.kind == "keep" and active:
            active.detached = True
        elif message.kind == "take":
            with suppress(msgspec.DecodeError):
                self._others.receive(message)
                if active:  # it was followed, and goes on without those who did
                    active.detached = True
                task = asyncio.create_task(self._take_over(message.job))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _lose_all(self) -> None:
        """Other servers took this one for dead, interrupted its jobs, and may compute them again."""
        for active in [active for active in self._active.values() if not active.elsewhere]:
            self._end(active, "interrupted", error=interrupted("other servers took this one for dead"), recorded=False)
            active.stop()

    def _own_progress(self) -> Mapping[str, JobProgress]:
        """Progress of the jobs that this server computes; called in the thread of the lease."""
        jobs = [active.job for active in list(self._active.values()) if not active.elsewhere]
        return {job.id: JobProgress(id=job.id, state=job.state, done=job.done, total=job.total) for job in jobs}
