"""States of the jobs of all replicas, the servers of one store, as any of them finds them on the disk.

A job that has not ended is in the claim of a server that lives, and has its progress from there. That of a dead server
is interrupted by whoever finds it first.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from tegakari.schemas.analysis_kinds import KNOCKOUT_ANALYSIS
from tegakari.schemas.errors import InternalError, InterruptedJobError, TegakariError, error_classes
from tegakari.schemas.jobs import FINAL, JobProgress, KnockoutJob
from tegakari.service.http.problems import problem_of
from tegakari.service.observe import metrics
from tegakari.store.disk.job_claims import JobClaims
from tegakari.store.disk.job_files import JobFiles
from tegakari.store.disk.replica_leases import ReplicaLease, all_progress, job_progress
from tegakari.store.results import analysis_by_key

log = structlog.get_logger()


class JobStates:
    """The states of the jobs of a store. Used from any thread."""

    def __init__(self, store: Path, files: JobFiles, claims: JobClaims, lease: ReplicaLease) -> None:
        """Read nothing yet.

        Args:
            store: the store's directory.
            files: states as they were written.
            claims: who computes which job.
            lease: of this server; says which others live.
        """
        self._store = store
        self._files = files
        self._claims = claims
        self._lease = lease

    def owner(self, id_: str) -> str | None:
        """The server that computes a job; None: none that lives."""
        owner = self._claims.owner(id_)
        return owner if owner is not None and self._lease.lives(owner) else None

    def progress(self, id_: str) -> JobProgress | None:
        """Progress of a job that another server computes; None: none does."""
        owner = self.owner(id_)
        if owner is None or owner == self._lease.replica:
            return None
        return job_progress(self._store, owner, id_) or JobProgress(id=id_, state="queued", done=0, total=None)

    def stored(self, id_: str) -> KnockoutJob | None:
        """A knockout whose result is stored."""
        analysis = analysis_by_key(self._store, KNOCKOUT_ANALYSIS, id_)
        if analysis is None:
            return None
        result = analysis.result(KNOCKOUT_ANALYSIS)
        return KnockoutJob(
            id=id_,
            state="done",
            done=result.documents,
            total=result.documents,
            run=result.run,
            settings=result.settings,
            created=analysis.manifest.created,
            result=result,
        )

    def find(self, id_: str) -> KnockoutJob | None:
        """A job with its result or its state; None: there is none."""
        if stored := self.stored(id_):
            return stored
        progress = self.progress(id_)
        job = self._files.read(id_)
        if progress is not None:
            return job and with_progress(job, progress)
        if job is not None and job.state not in FINAL:
            self.interrupt(id_)
            job = self._files.read(id_)
        return job or self.stored(id_)  # the state of a job goes when its result has come

    def interrupt(self, id_: str) -> None:
        """Interrupt a job that no living server computes; one of several servers that find it does so."""
        me, owner = self._lease.replica, self._claims.owner(id_)
        if owner is not None and self._lease.lives(owner):
            return
        try:
            won = self._claims.take(id_, me) if owner is None else self._claims.pass_on(id_, owner, me)
            if not won:
                return
            try:
                job = self._files.read(id_)  # as it is now that nobody else writes it
                if job is not None and job.state not in FINAL:
                    problem = problem_of(interrupted("the server was killed"))
                    self._files.write(msgspec.structs.replace(job, state="interrupted", problem=problem))
                    metrics.JOBS_ENDED.labels("interrupted").inc()
                    log.warning("job of a dead server interrupted", id=id_, server=owner)
            finally:
                self._claims.release(id_, me)
        except OSError as error:
            log.warning("job not stored", id=id_, reason=error.strerror)

    def interrupt_abandoned(self) -> None:
        """Interrupt jobs of dead servers, and remove what these have left."""
        for id_, owner in self._claims.owners().items():
            if not self._lease.lives(owner):
                self.interrupt(id_)
        self._lease.bury_dead()

    def interrupt_unclaimed(self) -> None:
        """Interrupt jobs that have not ended and that no server has claimed. Reads the states of all jobs."""
        for job in self._files.unfinished():
            if self._claims.owner(job.id) is None:
                self.interrupt(job.id)


def with_progress(job: KnockoutJob, progress: JobProgress) -> KnockoutJob:
    """A job as far as it is."""
    return msgspec.structs.replace(
        job, state=progress.state, done=progress.done, total=progress.total, result=None, problem=None
    )


def error_of(job: KnockoutJob) -> TegakariError | None:
    """The error that a job has ended with on another server, for the requests that wait for it."""
    if job.problem is None:
        return None
    classes = {error.docs_page(): error for error in error_classes()}
    return classes.get(job.problem.type, InternalError)(
        job.problem.detail, field=job.problem.field, fix=job.problem.fix
    )


def newest_jobs(store: Path, limit: int) -> list[KnockoutJob]:
    """Jobs by creation, newest first, with the progress that servers tell."""
    claimed, progress = JobClaims(store).owners(), all_progress(store)
    return [
        with_progress(job, progress[job.id]) if job.id in claimed and job.id in progress else job
        for job in JobFiles(store).newest(limit)
    ]


def interrupted(reason: str) -> InterruptedJobError:
    """The error of a job that was ended before its result."""
    return InterruptedJobError(f"the job was interrupted: {reason}", fix="repeat the request: it starts the job again")
