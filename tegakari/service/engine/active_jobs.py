"""A knockout as a job of this server: what it computes, or follows while another server computes it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

import msgspec

from tegakari.analyses.engine.cost import Cost
from tegakari.schemas.jobs import FINAL, JobProgress, JobState, KnockoutJob
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.schemas.problem import Problem
from tegakari.service.engine.work_progress import WorkProgress
from tegakari.store import Run


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


class ActiveJob:
    """A job of this process that is queued or running, or that another server has."""

    def __init__(self, job: KnockoutJob, client: str, size: int) -> None:
        self._job = job
        self.client = client
        self.size = size
        self.progress = WorkProgress()
        self.waiting = 0
        """requests that wait for its result"""
        self.detached = False
        """whether it goes on without a waiting request, because a client was told its id"""
        self.claimed = False
        """whether no other server computes it, because this one has claimed it"""
        self.elsewhere = False
        """whether another server computes it"""
        self.handovers = 0
        """servers that were stopped while they had it"""
        self.looked_up = asyncio.Event()
        """set once the store was searched for its result"""
        self.ended = asyncio.Event()
        """set once this server has done with it; it has ended, or was handed over to another server"""
        self.error: Exception | None = None
        self.task: asyncio.Task[None] | None = None

    def end(self, state: JobState, result: KnockoutResult | None = None, problem: Problem | None = None) -> None:
        """Record its last state, or `queued` for the server that it is handed over to."""
        self.end_as(msgspec.structs.replace(self._current(), state=state, result=result, problem=problem))

    def end_as(self, job: KnockoutJob) -> None:
        """Take the last state of a job that is stored, so that every response about it is the same."""
        self._job = job
        self.looked_up.set()
        self.ended.set()

    def show(self, progress: JobProgress) -> None:
        """Take the progress that another server tells."""
        self._job = msgspec.structs.replace(self._job, state=progress.state, done=progress.done, total=progress.total)
        self.elsewhere = True
        self.looked_up.set()

    def stop(self) -> None:
        """Stop its work at its next step."""
        self.progress.cancel()
        if self.task:
            self.task.cancel()

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, here or on another server."""
        return self.ended.is_set() and self._job.state in FINAL

    @property
    def job(self) -> KnockoutJob:
        return self._job if self.ended.is_set() else self._current()

    def _current(self) -> KnockoutJob:
        if self.elsewhere:
            return self._job
        state: JobState = "queued" if self.progress.total is None else "running"
        if self.progress.loading:
            state = "loading"
        return msgspec.structs.replace(self._job, state=state, done=self.progress.done, total=self.progress.total)
