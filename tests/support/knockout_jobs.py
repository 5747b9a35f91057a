"""Jobs of knockouts over a drawn run, whose computation is replaced: it takes a time, or until it is cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tegakari.analyses.engine.cost import Cost
from tegakari.schemas.knockout import KnockoutSettings
from tegakari.service.engine import jobs as jobs_module
from tegakari.service.engine.active_jobs import Knockout
from tegakari.service.engine.cost_limits import CostLimits
from tegakari.service.engine.jobs import JobLimits, Jobs
from tegakari.service.engine.queue import ModelQueue
from tegakari.store import Store
from tegakari.store.disk.job_files import Retention
from tests.support.factories import LABELS

SETTINGS = KnockoutSettings(label=LABELS[0], layer=0, texts=["a text"] * 100)
LIMITS = JobLimits(seconds=60, retention=Retention(30, 2**20))


def knockout(store: Path, number: int = 0, *, tokens: int = 10, size: int = 100) -> Knockout:
    """A knockout whose id is a number."""
    run = Store(store).run("drawn")
    return Knockout(f"{number:032x}", store, run, SETTINGS, Cost(100, tokens), documents=str(number), size=size)


def jobs_of(store: Path, queue: ModelQueue, limits: JobLimits = LIMITS, max_job_tokens: int = 1000) -> Jobs:
    """The jobs of one server of the store."""
    return Jobs(store, queue, CostLimits(1000, max_job_tokens), limits)


def running(monkeypatch: pytest.MonkeyPatch, seconds: float = 30.0) -> tuple[threading.Event, list[str]]:
    """Make knockouts run for a time, unless they are cancelled: set when one has begun, and the ids of those."""
    begun = threading.Event()
    ids: list[str] = []

    def compute(_models: object, knockouts: list[Knockout], progress: object) -> list[None]:
        progress.stage("work", 10)  # type: ignore[attr-defined]
        progress.advance(3)  # type: ignore[attr-defined]
        ids.extend(knockout.id for knockout in knockouts)
        begun.set()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.005)
            progress.advance(0)  # type: ignore[attr-defined]
        return [None for _ in knockouts]

    monkeypatch.setattr(jobs_module, "_KNOCKOUT_WORK", jobs_module._KNOCKOUT_WORK._replace(compute=compute))
    return begun, ids


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the condition did not become true")
