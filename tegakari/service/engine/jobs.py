"""Knockouts as jobs: one for the same question, whoever asks; what is known of them survives the server."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from tegakari.schemas.analysis_kinds import KNOCKOUT_ANALYSIS
from tegakari.schemas.errors import NotFoundError, TegakariError
from tegakari.schemas.jobs import FINAL, JobState, KnockoutJob
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.schemas.problem import Problem
from tegakari.service.engine.queue import Batchable, ModelQueue, Progress
from tegakari.service.http.problems import problem_of
from tegakari.store import Run
from tegakari.store.disk.durable import write_atomically
from tegakari.store.disk.layout import jobs_directory
from tegakari.store.results import analysis_by_key

if TYPE_CHECKING:
    from tegakari.analyses.engine.run_models import RunModels

"""of the stored analyses that are the jobs' results"""

TOGETHER = 32
"""Knockouts of a run that go through its models together."""

KEPT_DAYS = 30
"""How long it is known of a job that did not end well; results stay."""

REMEMBERED = 32
"""Ended jobs that are kept in memory where the store cannot be written."""

log = structlog.get_logger()


class _Question(NamedTuple):
    store: Path
    run: Run
    settings: KnockoutSettings


def _together(models: RunModels, questions: Sequence[_Question], progress: Progress) -> list[KnockoutResult]:
    from tegakari.analyses.knockout import compute_knockouts

    store, run, _ = questions[0]
    return compute_knockouts(store, run, lambda: models, [each.settings for each in questions], progress=progress)


_KNOCKOUT = Batchable(key="knockout", together=_together, size=lambda _: 1, most=TOGETHER, patient=True)


class ActiveJob:
    """A job that waits or runs in this process."""

    def __init__(self, job: KnockoutJob) -> None:
        self._job = job
        self.progress = Progress()
        self.waiting = 0
        """requests that wait for it"""
        self.promised = False
        """whether somebody was told that it goes on"""
        self.ended = asyncio.Event()
        self.error: Exception | None = None
        self.task: asyncio.Task[None] | None = None

    def end(self, state: JobState, result: KnockoutResult | None, problem: Problem | None) -> None:
        """Note how it ended."""
        self._job = msgspec.structs.replace(self._now(), state=state, result=result, problem=problem)
        self.ended.set()

    @property
    def job(self) -> KnockoutJob:
        return self._job if self.ended.is_set() else self._now()

    def _now(self) -> KnockoutJob:
        state = "queued" if self.progress.total is None else "running"
        return msgspec.structs.replace(self._job, state=state, done=self.progress.done, total=self.progress.total)


class Jobs:
    """The jobs of one store. Used from one event loop."""

    def __init__(self, store: Path, live: ModelQueue) -> None:
        """Nothing is read yet.

        Args:
            store: the store's directory.
            live: runs the work.
        """
        self._store = store
        self._live = live
        self._active: dict[str, ActiveJob] = {}
        self._ended: OrderedDict[str, KnockoutJob] = OrderedDict()
        self._closing = False

    def mark_interrupted(self) -> None:
        """At the start: jobs that were queued or running when a server ended do so no more; old ones are forgotten."""
        oldest = time.time() - KEPT_DAYS * 86_400
        for file in sorted(jobs_directory(self._store).glob("*.json")):
            job = _read(file)
            if job and job.state in FINAL and file.stat().st_mtime < oldest:
                file.unlink(missing_ok=True)
            elif job and job.state not in FINAL:
                self._keep(msgspec.structs.replace(job, state="interrupted"))

    def start(self, id_: str, run: Run, settings: KnockoutSettings) -> ActiveJob:
        """The job of a resolved question, begun if it is not under way."""
        if id_ in self._active:
            return self._active[id_]
        created = datetime.now(UTC).isoformat(timespec="seconds")
        active = ActiveJob(
            KnockoutJob(id=id_, state="queued", done=0, total=None, run=run.name, settings=settings, created=created)
        )
        self._active[id_] = active
        self._keep(active.job)
        self._ended.pop(id_, None)
        active.task = asyncio.create_task(self._work(active, _Question(self._store, run, settings)))
        return active

    async def wait(self, active: ActiveJob, seconds: float) -> bool:
        """Whether a job ends within so many seconds.

        A job that nobody waits for any more is cancelled, unless somebody was told that it goes on.
        """
        active.waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await active.ended.wait()
        except TimeoutError:
            active.promised = True
        except asyncio.CancelledError:
            if active.waiting == 1 and not active.promised:
                self._cancel(active)
            raise
        finally:
            active.waiting -= 1
        return active.ended.is_set()

    def find(self, id_: str) -> KnockoutJob:
        """A job, ended or not. Reads files.

        Raises:
            NotFoundError: there is none.
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
            raise NotFoundError(f"there is no knockout {id_!r}", field="id", fix="ids are those of 202 answers")
        return job

    def active(self, id_: str) -> ActiveJob | None:
        return self._active.get(id_)

    async def cancel(self, id_: str) -> KnockoutJob:
        """End a job that waits or runs; what has ended stays as it is.

        Raises:
            NotFoundError: there is none.
        """
        active = self._active.get(id_)
        if active is None:
            return await asyncio.to_thread(self.find, id_)
        self._cancel(active)
        return active.job

    async def close(self) -> None:
        """Interrupt what waits and runs."""
        self._closing = True
        tasks = [active.task for active in self._active.values() if active.task]
        for active in list(self._active.values()):
            self._cancel(active)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _cancel(self, active: ActiveJob) -> None:
        self._end(active, "interrupted" if self._closing else "cancelled")
        active.progress.stop()
        if active.task:
            active.task.cancel()

    async def _work(self, active: ActiveJob, question: _Question) -> None:
        try:
            result = await self._live.submit_batchable(
                question.run, _KNOCKOUT, question, deadline=float("inf"), progress=active.progress
            )
            self._end(active, "done", result=result)
        except TegakariError as error:
            self._end(active, "failed", error=error)
        except Exception as error:
            log.exception("unhandled", job=active.job.id)
            self._end(active, "failed", error=error)

    def _end(
        self,
        active: ActiveJob,
        state: JobState,
        *,
        result: KnockoutResult | None = None,
        error: Exception | None = None,
    ) -> None:
        """The first end of a job counts. What is known of it is kept before it is forgotten here."""
        if active.ended.is_set():
            return
        active.error = error
        active.end(state, result, problem_of(error) if error else None)
        job = active.job
        if not self._keep(job):
            self._ended[job.id] = job
            while len(self._ended) > REMEMBERED:
                self._ended.popitem(last=False)
        del self._active[job.id]

    def _keep(self, job: KnockoutJob) -> bool:
        """Whether what is known of a job lies in the store now; a result lies with the analyses."""
        try:
            if job.state == "done":
                self._file(job.id).unlink(missing_ok=True)
                return analysis_by_key(self._store, KNOCKOUT_ANALYSIS, job.id) is not None
            self._file(job.id).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file(job.id), msgspec.json.encode(job))
        except OSError as error:
            log.warning("job not kept", id=job.id, reason=error.strerror)
            return False
        return True

    def _file(self, id_: str) -> Path:
        return jobs_directory(self._store) / f"{id_}.json"


def _read(file: Path) -> KnockoutJob | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=KnockoutJob)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
