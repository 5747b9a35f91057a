"""Knockouts as jobs: requests with the same settings share one; the state of a job outlives the server."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from tegakari.schemas.analysis_kinds import KNOCKOUT_ANALYSIS
from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import BusyError, NotFoundError, TegakariError
from tegakari.schemas.jobs import FINAL, JobState, KnockoutJob
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.schemas.problem import Problem
from tegakari.schemas.progress import Progress
from tegakari.service.engine.queue import BatchWork, ModelQueue
from tegakari.service.engine.work_progress import WorkProgress
from tegakari.service.http.problems import problem_of
from tegakari.store import Run
from tegakari.store.disk.durable import write_atomically
from tegakari.store.disk.layout import jobs_directory
from tegakari.store.results import analysis_by_key

if TYPE_CHECKING:
    from tegakari.analyses.engine.run_models import RunModels

BATCH_JOBS = 32
"""Jobs of a run that share a call of the models."""

RETENTION_DAYS = 30
"""Days for which the state of a job that did not succeed is kept; results stay."""

RETENTION_BYTES = 2**26
"""Size of all states that are kept from one start of a server to the next, newest first."""

REMEMBERED_JOBS = 32
"""Ended jobs in memory where the store cannot be written."""

log = structlog.get_logger()


class _Knockout(NamedTuple):
    store: Path
    run: Run
    settings: KnockoutSettings
    """resolved"""


def _compute(models: RunModels, knockouts: Sequence[_Knockout], progress: Progress) -> list[KnockoutResult]:
    from tegakari.analyses.knockout import compute_knockouts

    store, run, _ = knockouts[0]
    return compute_knockouts(
        store, run, lambda: models, [knockout.settings for knockout in knockouts], progress=progress
    )


_KNOCKOUT_WORK = BatchWork(key="knockout", compute=_compute, size=lambda _: 1, max_size=BATCH_JOBS, interruptible=True)


class ActiveJob:
    """A job of this process that is queued or running."""

    def __init__(self, job: KnockoutJob) -> None:
        self._job = job
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
        self._job = msgspec.structs.replace(self._current(), state=state, result=result, problem=problem)
        self.looked_up.set()
        self.ended.set()

    @property
    def job(self) -> KnockoutJob:
        return self._job if self.ended.is_set() else self._current()

    def _current(self) -> KnockoutJob:
        state = "queued" if self.progress.total is None else "running"
        return msgspec.structs.replace(self._job, state=state, done=self.progress.done, total=self.progress.total)


class Jobs:
    """The jobs of one store. Used from one event loop."""

    def __init__(self, store: Path, model_queue: ModelQueue) -> None:
        """Start without jobs; no file is read.

        Args:
            store: the store's directory.
            model_queue: runs the work.
        """
        self._store = store
        self._model_queue = model_queue
        self._active: dict[str, ActiveJob] = {}
        self._ended: OrderedDict[str, KnockoutJob] = OrderedDict()
        self._closing = False

    def mark_interrupted(self) -> None:
        """At the start of a server: mark jobs of an earlier one as interrupted, and forget old or large failures."""
        oldest, size = time.time() - RETENTION_DAYS * 86_400, 0
        files = [(file.stat(), file) for file in jobs_directory(self._store).glob("*.json")]
        for status, file in sorted(files, key=lambda entry: -entry[0].st_mtime):
            job = _read(file)
            size += status.st_size
            if job and job.state not in FINAL:
                self._write(msgspec.structs.replace(job, state="interrupted"))
            elif status.st_mtime < oldest or size > RETENTION_BYTES:
                file.unlink(missing_ok=True)

    def start(self, id_: str, run: Run, settings: KnockoutSettings) -> ActiveJob:
        """The active job of a knockout; a new one if there is none.

        Args:
            id_: key of the knockout.
            run: published.
            settings: resolved.
        """
        if id_ in self._active:
            return self._active[id_]
        created = datetime.now(UTC).isoformat(timespec="seconds")
        active = ActiveJob(
            KnockoutJob(id=id_, state="queued", done=0, total=None, run=run.name, settings=settings, created=created)
        )
        self._active[id_] = active
        self._ended.pop(id_, None)
        active.task = asyncio.create_task(self._work(active, _Knockout(self._store, run, settings)))
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
        stored = analysis_by_key(self._store, KNOCKOUT_ANALYSIS, id_)
        if stored:
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
        job = self._ended.get(id_) or (_read(self._file(id_)) if id_.isalnum() else None)
        if job is None:
            raise NotFoundError(f"no knockout {id_!r}", field="id", fix="use the `id` of a response with status 202")
        return job

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
        """Interrupt queued and running jobs."""
        self._closing = True
        tasks = [active.task for active in self._active.values() if active.task]
        for active in list(self._active.values()):
            self._cancel(active)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _cancel(self, active: ActiveJob) -> None:
        self._end(active, "interrupted" if self._closing else "cancelled")
        active.progress.cancel()
        if active.task:
            active.task.cancel()

    async def _work(self, active: ActiveJob, knockout: _Knockout) -> None:
        """Read the result from the store or compute it.

        The job is active before the look-up: later requests join it, so that a result is never computed twice.
        """
        id_ = active.job.id
        try:
            stored = await asyncio.to_thread(self._stored_result, id_)
            if stored is not None:
                self._end(active, "done", result=stored, recorded=False)
                return
            self._write(active.job)
            active.looked_up.set()
            result = await self._model_queue.submit(
                knockout.run, _KNOCKOUT_WORK, knockout, deadline=float("inf"), progress=active.progress
            )
            self._end(active, "done", result=result)
        except BusyError as error:  # refused: the client has its reason, and the store no trace of the question
            if not active.ended.is_set():
                with suppress(OSError):
                    self._file(id_).unlink()
            self._end(active, "failed", error=error, recorded=False)
        except TegakariError as error:
            self._end(active, "failed", error=error)
        except Exception as error:
            log.exception("unhandled", job=id_)
            self._end(active, "failed", error=error)

    def _stored_result(self, id_: str) -> KnockoutResult | None:
        stored = analysis_by_key(self._store, KNOCKOUT_ANALYSIS, id_)
        return stored.result(KNOCKOUT_ANALYSIS) if stored else None

    def _end(
        self,
        active: ActiveJob,
        state: JobState,
        *,
        result: KnockoutResult | None = None,
        error: Exception | None = None,
        recorded: bool = True,
    ) -> None:
        """End a job; later ends are ignored. A state that is recorded is written before it leaves this process."""
        if active.ended.is_set():
            return
        active.error = error
        active.end(state, result, problem_of(error) if error else None)
        job = active.job
        if recorded and not self._write(job):
            self._ended[job.id] = job
            while len(self._ended) > REMEMBERED_JOBS:
                self._ended.popitem(last=False)
        del self._active[job.id]

    def _write(self, job: KnockoutJob) -> bool:
        """Write the state of a job; whether a reader of the store finds it. Results lie with the analyses."""
        try:
            if job.state == "done":
                self._file(job.id).unlink(missing_ok=True)
                return analysis_by_key(self._store, KNOCKOUT_ANALYSIS, job.id) is not None
            self._file(job.id).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file(job.id), msgspec.json.encode(job))
        except OSError as error:
            log.warning("job not stored", id=job.id, reason=error.strerror)
            return False
        return True

    def _file(self, id_: str) -> Path:
        return jobs_directory(self._store) / f"{id_}.json"


def _read(file: Path) -> KnockoutJob | None:
    try:
        job = decode_json(file.read_bytes(), KnockoutJob)
    except (OSError, msgspec.DecodeError):
        return None
    return job if job.id == file.stem else None  # it is written back to the file of its id
