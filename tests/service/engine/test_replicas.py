"""Several servers of one store, each with its jobs, in one process: they find, follow, cancel and take over jobs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tegakari.schemas.errors import CancelledJobError, InterruptedJobError
from tegakari.schemas.jobs import KnockoutJob
from tegakari.schemas.knockout import KnockoutSettings
from tegakari.service.engine.active_jobs import ActiveJob, Knockout
from tegakari.service.engine.job_states import error_of
from tegakari.service.engine.jobs import Jobs
from tegakari.service.engine.knockout_list import list_knockouts
from tegakari.service.engine.knockout_requests import requested_knockout
from tegakari.service.engine.queue import ModelQueue
from tegakari.service.http.problems import problem_of
from tegakari.service.observe import metrics
from tegakari.store import Store
from tegakari.store.disk.job_claims import JobClaims
from tegakari.store.disk.job_files import JobFiles
from tegakari.store.disk.layout import jobs_directory
from tests.support.factories import LABELS, make_run
from tests.support.knockout_jobs import SETTINGS, jobs_of, knockout, running, until

JOB = f"{0:032x}"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    make_run(tmp_path, "drawn")
    return tmp_path


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the jobs whose computation has begun, on any server; they run until they are cancelled."""
    _, ids = running(monkeypatch)
    return ids


@asynccontextmanager
async def servers(store: Path, number: int = 2) -> AsyncIterator[list[Jobs]]:
    queues = [ModelQueue(load=lambda _: None) for _ in range(number)]  # type: ignore
    jobs = [jobs_of(store, queue) for queue in queues]
    for server in jobs:
        await server.open()
    yield jobs
    for server, queue in zip(jobs, queues, strict=True):
        await server.close()
        queue.close()


def scenario(store: Path, play: Callable[[list[Jobs]], Awaitable[None]], number: int = 2) -> None:
    async def run() -> None:
        async with servers(store, number) as jobs:
            await play(jobs)

    asyncio.run(run())


async def found(jobs: Jobs, id_: str = JOB) -> KnockoutJob:
    return await asyncio.to_thread(jobs.find, id_)


async def until_state(jobs: Jobs, state: str, id_: str = JOB) -> KnockoutJob:
    async with asyncio.timeout(20):
        while (job := await found(jobs, id_)).state != state:
            await asyncio.sleep(0.02)
    return job


async def begun(active: ActiveJob, computed: list[str]) -> None:
    """Wait until a job runs and is recorded."""
    await until(lambda: active.looked_up.is_set() and active.job.id in computed)


def kill(jobs: Jobs) -> None:
    """What the kernel does with a killed process: its lock is released, and nothing is written."""
    jobs._replica._stopping.set()
    assert jobs._replica._thread
    jobs._replica._thread.join()
    jobs._lease.forget()


def test_any_server_finds_follows_and_cancels_a_job(store: Path, computed: list[str]):
    async def play(jobs: list[Jobs]) -> None:
        one, two = jobs
        await begun(one.start(knockout(store), "a"), computed)
        job = await until_state(two, "running")
        assert (job.done, job.total, job.run) == (3, 10, "drawn")
        (row,) = list_knockouts(store, two.current(), run=None, state="running", limit=9, cursor=None).items
        assert (row.id, row.done) == (JOB, 3)
        states: list[str] = []

        async def watch() -> None:
            async for state in two.watch(JOB):
                states.append(state.state)

        watching = asyncio.create_task(watch())
        await until(lambda: bool(states))
        assert (await two.cancel(JOB)).state == "cancelled"
        await asyncio.wait_for(watching, 10)
        assert (set(states[:-1]), states[-1]) == ({"running"}, "cancelled")
        assert (await found(one)).state == "cancelled"

    scenario(store, play)
    assert computed == [JOB]


def test_the_same_request_at_two_servers_is_computed_once(store: Path, computed: list[str]):
    async def play(jobs: list[Jobs]) -> None:
        one, two, three = jobs
        first = one.start(knockout(store), "a")
        await until(lambda: computed == [JOB])
        other = two.start(knockout(store), "b")
        waiting = asyncio.create_task(three.wait(three.start(knockout(store), "c"), 60))
        assert not await two.wait(other, 0.1)
        await until(lambda: other.job.done == 3)
        await until(lambda: first.detached)  # it goes on without its own client
        await two.cancel(JOB)
        assert await asyncio.wait_for(waiting, 10)
        await until(lambda: other.has_ended)
        assert {first.job.state, other.job.state} == {"cancelled"}
        assert two.start(knockout(store), "b") is not other  # a new job with the same id
        await until(lambda: len(computed) == 2)

    scenario(store, play, 3)
    assert computed == [JOB, JOB]


def test_jobs_of_a_dead_server_are_interrupted_once_and_those_of_a_living_one_go_on(store: Path, computed: list[str]):
    interrupted = metrics.JOBS_ENDED.labels("interrupted")._value

    async def play(jobs: list[Jobs]) -> None:
        one, two, three = jobs
        for number in range(3):
            await begun(one.start(knockout(store, number), f"client {number}"), computed)
        await begun(two.start(knockout(store, 7), "a"), computed)
        waiting = three.start(knockout(store), "b")
        await until(lambda: waiting.elsewhere)
        late = jobs_of(store, ModelQueue())
        await late.open()  # a server that starts marks nothing
        assert {(await found(late, f"{number:032x}")).state for number in (0, 1, 2, 7)} <= {"queued", "running"}
        kill(one)
        before = interrupted.get()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda server: server._states.interrupt_abandoned(), [two, three, late] * 5))
        assert interrupted.get() - before == 3
        await until(lambda: waiting.has_ended)
        assert isinstance(waiting.error, InterruptedJobError)
        assert {(await found(late, f"{number:032x}")).state for number in (0, 1, 2)} == {"interrupted"}
        problem = (await found(two, JOB)).problem
        assert problem
        assert "killed" in problem.detail
        await until_state(late, "running", f"{7:032x}")
        assert JobClaims(store).owners().keys() == {f"{7:032x}"}
        await late.close()
        # The dead server comes back after all: it may not write what the others have written.
        restarted = two.start(knockout(store), "c")
        await until(lambda: restarted.claimed)
        await one.cancel(JOB)
        await until(lambda: JOB in computed[4:])
        await until_state(three, "running")

    scenario(store, play, 3)


def test_a_server_that_is_stopped_hands_its_jobs_over(
    store: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tegakari.service.engine.jobs.DRAIN_SECONDS", 0.1)

    async def play(jobs: list[Jobs]) -> None:
        one, two = jobs
        first = one.start(knockout_of_settings(store), "a")
        id_ = first.job.id
        waiting = asyncio.create_task(one.wait(first, 60))
        await begun(first, computed)
        followed = two.start(knockout_of_settings(store), "b")
        await until(lambda: followed.elsewhere)
        await one.drain()
        assert one.draining
        assert not await asyncio.wait_for(waiting, 5)  # its client is told the id
        assert first.job.state == "queued"
        await until(lambda: computed == [id_, id_])
        await until_state(two, "running", id_)
        assert JobClaims(store).owner(id_) == two._lease.replica
        assert (followed.client, followed.handovers, followed.detached) == ("a", 1, True)
        await two.cancel(id_)
        await until_state(one, "cancelled", id_)

    scenario(store, play)


def knockout_of_settings(store: Path) -> Knockout:
    """A knockout with the id of its settings: the server that it is handed over to computes it from them."""
    settings = KnockoutSettings(label=LABELS[0], layer=0, k=1, draws=0, texts=["a text"])
    return requested_knockout(Store(store).run("drawn"), store, settings)


def test_the_last_server_hands_nothing_over(store: Path, computed: list[str]):
    async def play(jobs: list[Jobs]) -> None:
        (one,) = jobs
        active = one.start(knockout(store), "a")
        await until(lambda: computed == [JOB])
        await one.drain()
        assert active.job.state == "running"

    scenario(store, play, 1)
    job = JobFiles(store).read(JOB)
    assert job
    assert job.state == "interrupted"


def test_a_server_that_was_taken_for_dead_ends_its_jobs(store: Path, computed: list[str]):
    async def play(jobs: list[Jobs]) -> None:
        one, two = jobs
        active = one.start(knockout(store), "a")
        await until(lambda: computed == [JOB])
        lock, one._lease._lock = one._lease._lock, None
        assert lock is not None
        os.close(lock)
        two._states.interrupt_abandoned()
        await until(lambda: active.has_ended)
        assert active.job.problem
        assert "took this one for dead" in active.job.problem.detail
        assert (await found(two)).state == "interrupted"
        await until(lambda: one._lease.taken)
        assert two._lease.lives(one._lease.replica)

    scenario(store, play)


def test_nothing_is_left_of_servers_without_jobs(store: Path):
    async def play(jobs: list[Jobs]) -> None:
        assert jobs_directory(store).exists()

    scenario(store, play)
    assert not jobs_directory(store).exists()


def test_a_cancelled_wait_at_another_server_leaves_the_job(store: Path, computed: list[str]):
    async def play(jobs: list[Jobs]) -> None:
        one, two = jobs
        await begun(one.start(knockout(store), "a"), computed)
        waiting = asyncio.create_task(two.wait(two.start(knockout(store), "b"), 60))
        await until(lambda: JOB in two.current() and two._active[JOB].elsewhere)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert JOB not in two.current()
        assert (await until_state(two, "running")).done == 3

    scenario(store, play)


def test_errors_of_other_servers_are_errors_here():
    error = CancelledJobError("the job was cancelled", field="id", fix="repeat")
    job = KnockoutJob(
        id=JOB, state="failed", done=0, total=1, run="r", settings=SETTINGS, created="2026", problem=problem_of(error)
    )
    again = error_of(job)
    assert type(again) is CancelledJobError
    assert problem_of(again) == problem_of(error)
