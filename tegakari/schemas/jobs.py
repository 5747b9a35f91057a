"""Jobs: work that goes on after the request that asked for it was answered."""

from __future__ import annotations

from typing import Literal

import msgspec

from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.schemas.problem import Problem

JobState = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]

FINAL: tuple[JobState, ...] = ("done", "failed", "cancelled", "interrupted")
"""States that a job stays in. What was interrupted (by the end of the server) can be asked for again."""


class JobProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is."""

    id: str
    state: JobState
    done: int
    """documents"""
    total: int | None
    """documents; null until it runs."""


class KnockoutJob(JobProgress, frozen=True, kw_only=True):
    """A knockout that is asked for; the same question has the same id."""

    run: str
    settings: KnockoutSettings
    """as asked, defaults filled in."""
    created: str
    """ISO 8601, UTC."""
    result: KnockoutResult | None = None
    """once it is done"""
    problem: Problem | None = None
    """if it failed: what a request that waited for it was answered."""
