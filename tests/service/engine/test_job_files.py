"""Files of jobs: none of a refused one, written off the event loop, and removed by age and size."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import msgspec
import pytest

from tegakari.schemas.errors import BusyError, InterruptedJobError, TooCostlyError
from tegakari.schemas.jobs import KnockoutJob
from tegakari.service.engine import jobs as jobs_module
from tegakari.service.engine.active_jobs import ActiveJob
from tegakari.service.engine.jobs import JobLimits
from tegakari.service.engine.queue import ModelQueue
from tegakari.store.disk import job_files
from tegakari.store.disk.layout import jobs_directory
from tests.support.factories import make_run
from tests.support.knockout_jobs import LIMITS, SETTINGS, jobs_of, knockout, running, until


@pytest.fixture
def store(tmp_path: Path) -> Path:
    make_run(tmp_path, "drawn")
    return tmp_path


def stored(store: Path) -> list[KnockoutJob]:
    files = sorted(jobs_directory(store).glob("*"))
    return [msgspec.json.decode(file.read_bytes(), type=KnockoutJob) for file in files]


@pytest.mark.parametrize(
    ("max_waiting", "tokens", "error"), [(0, 10, BusyError), (10, 1001, TooCostlyError)], ids=["full", "costly"]
)
def test_a_refused_job_leaves_no_file(store: Path, max_waiting: int, tokens: int, error: type[Exception]):
    async def refusals() -> list[ActiveJob]:
        queue = ModelQueue(max_waiting=max_waiting, load=lambda _: None)  # type: ignore
        jobs = jobs_of(store, queue)
        active = [jobs.start(knockout(store, number, tokens=tokens), "a") for number in range(5)]
        await asyncio.gather(*(job.ended.wait() for job in active))
        await jobs.close()
        queue.close()
        return active

    assert {type(active.error) for active in asyncio.run(refusals())} == {error}
    assert not jobs_directory(store).exists()


def test_jobs_with_large_settings_are_refused_beyond_a_size(store: Path):
    async def scenario() -> None:
        queue = ModelQueue(load=lambda _: threading.Event().wait(0.2))  # type: ignore
        jobs = jobs_of(store, queue)
        size = jobs_module.MAX_ACTIVE_BYTES // 3
        for number in range(3):
            jobs.start(knockout(store, number, size=size), "a")
        with pytest.raises(BusyError, match="of the jobs that this client waits for"):
            jobs.start(knockout(store, 3, size=size), "a")
        jobs.start(knockout(store, 4, size=size), "b")
        await jobs.close()
        queue.close()

    asyncio.run(scenario())


def test_a_job_past_its_deadline_is_interrupted_and_says_why(store: Path, monkeypatch: pytest.MonkeyPatch):
    running(monkeypatch)

    async def scenario() -> ActiveJob:
        queue = ModelQueue(load=lambda _: None)  # type: ignore
        jobs = jobs_of(store, queue, JobLimits(0.1, LIMITS.retention))
        active = jobs.start(knockout(store), "a")
        await active.ended.wait()
        await until(lambda: not queue.busy)  # the work has ended as well
        await jobs.close()
        queue.close()
        return active

    active = asyncio.run(scenario())
    assert isinstance(active.error, InterruptedJobError)
    (job,) = stored(store)
    assert job.state == "interrupted"
    assert job.problem is not None
    assert "no result within 0.1 s" in job.problem.detail


def test_a_job_that_a_stopping_server_ends_says_why(store: Path, monkeypatch: pytest.MonkeyPatch):
    begun, _ = running(monkeypatch)

    async def scenario() -> None:
        queue = ModelQueue(load=lambda _: None)  # type: ignore
        jobs = jobs_of(store, queue)
        jobs.start(knockout(store), "a")
        await until(begun.is_set)
        await jobs.close()
        queue.close()

    asyncio.run(scenario())
    (job,) = stored(store)
    assert (job.state, "stopped" in (job.problem.detail if job.problem else "")) == ("interrupted", True)


def test_a_slow_disk_holds_up_no_other_request(store: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes of states are slow and stay in order; the event loop goes on, and the job is found meanwhile."""
    running(monkeypatch)
    write, order = job_files.write_atomically, []

    def slow_write(path: Path, content: bytes) -> None:
        time.sleep(1)
        order.append(msgspec.json.decode(content, type=KnockoutJob).state)
        write(path, content)

    monkeypatch.setattr(job_files, "write_atomically", slow_write)

    async def scenario() -> float:
        queue = ModelQueue(load=lambda _: None)  # type: ignore
        jobs = jobs_of(store, queue)
        longest, last = 0.0, time.perf_counter()

        async def watch() -> None:
            nonlocal longest, last
            while True:
                await asyncio.sleep(0.001)
                longest, last = max(longest, time.perf_counter() - last), time.perf_counter()

        watching = asyncio.create_task(watch())
        active = jobs.start(knockout(store), "a")
        await active.looked_up.wait()
        assert (await jobs.cancel(active.job.id)).state == "cancelled"
        assert (await asyncio.to_thread(jobs.find, active.job.id)).state == "cancelled"  # not written yet
        await jobs.close()
        watching.cancel()
        queue.close()
        return longest

    assert asyncio.run(scenario()) < 0.9  # less than one write
    assert order[-1] == "cancelled"
    assert stored(store)[0].state == "cancelled"


def test_states_of_a_killed_server_say_why(store: Path):
    files = job_files.JobFiles(store)
    files.write(KnockoutJob(id="1", state="running", done=0, total=9, run="drawn", settings=SETTINGS, created="2026"))
    jobs_of(store, ModelQueue()).interrupt_abandoned()
    (job,) = stored(store)
    assert job.state == "interrupted"
    assert job.problem is not None
    assert "killed" in job.problem.detail
