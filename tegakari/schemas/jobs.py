"""Jobs: work that continues after the response to its request."""

from __future__ import annotations

from typing import Literal

import msgspec

from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.schemas.problem import Problem

JobState = Literal["queued", "loading", "running", "done", "failed", "cancelled", "interrupted"]
"""`loading`: the models of the run are being loaded."""

FINAL: tuple[JobState, ...] = ("done", "failed", "cancelled", "interrupted")
"""States in which a job stays. The server interrupts jobs when it stops, and those that take longer than
`service.job_seconds`; the same request starts the job again."""


class JobProgress(msgspec.Struct, frozen=True, kw_only=True):
    """State and progress of a job."""

    id: str
    state: JobState
    done: int
    """finished documents"""
    total: int | None
    """documents in all; null until the job runs."""


class KnockoutRow(JobProgress, frozen=True, kw_only=True):
    """A knockout in the list of them."""

    run: str
    label: str | None
    """whose features are ablated; null for features that were named"""
    layer: int | None
    """of the label's features; null for features that were named"""
    features: int
    """number of features that are ablated"""
    created: str
    """ISO 8601, UTC."""


class KnockoutJob(JobProgress, frozen=True, kw_only=True):
    """A requested knockout; requests with the same settings have the same id."""

    run: str
    settings: KnockoutSettings
    """those of the request, with defaults filled in."""
    created: str
    """ISO 8601, UTC."""
    result: KnockoutResult | None = None
    """if the job is done"""
    problem: Problem | None = None
    """if the job failed or was interrupted, why: the response to requests that waited for it."""
