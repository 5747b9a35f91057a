"""The engine of live inference: order, bounds, deadlines, batches, and what happens when nobody waits any more."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tegakari.schemas.errors import BusyError, DeadlineError, ModelNotHereError
from tegakari.service.engine.queue import Batchable, ModelQueue, Progress
from tegakari.store import Run, Store
from tests.support.service import RUN, UNEVEN


@pytest.fixture
def run(store: Path) -> Run:
    return Store(store).run(RUN)


def engine(**settings: Any) -> ModelQueue:
    """An engine whose models are the names of their runs: what the engine does does not depend on them."""
    return ModelQueue(load=lambda run: run.name, **settings)  # type: ignore[arg-type, return-value]


class Blocker:
    """Work that runs until it is let go or stopped."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.go = threading.Event()
        self.stopped = False

    def __call__(self, _models: Any, progress: Progress) -> str:
        self.started.set()
        try:
            while not self.go.wait(0.005):
                progress()
        except BaseException:
            self.stopped = True
            raise
        return "done"


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("never happened")


def test_work_gets_the_models_of_its_run_and_answers(run: Run):
    async def scenario() -> None:
        live = engine()
        assert await live.submit(run, lambda models, _: f"{models} answered") == f"{RUN} answered"
        live.close()

    asyncio.run(scenario())


def test_one_piece_of_work_at_a_time_first_come_first_served(run: Run):
    running, order, together = [0], [], []

    def work(number: int) -> Callable[[Any, Progress], None]:
        def step(_models: Any, _progress: Progress) -> None:
            running[0] += 1
            together.append(running[0])
            time.sleep(0.002)
            order.append(number)
            running[0] -= 1

        return step

    async def scenario() -> None:
        live = engine()
        await asyncio.gather(*(live.submit(run, work(number)) for number in range(20)))
        live.close()

    asyncio.run(scenario())
    assert order == list(range(20))
    assert set(together) == {1}


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(run: Run):
    async def scenario() -> None:
        live, blocker = engine(waiting=3), Blocker()
        first = asyncio.create_task(live.submit(run, blocker))
        await until(blocker.started.is_set)
        others = [asyncio.create_task(live.submit(run, lambda *_: 1)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError) as refused:
            await live.submit(run, lambda *_: 1)
        assert refused.value.retry_after > 0
        others[0].cancel()  # whoever stops waiting makes room
        await asyncio.sleep(0.01)
        last = asyncio.create_task(live.submit(run, lambda *_: 2))
        await asyncio.sleep(0)
        blocker.go.set()
        assert await first == "done"
        assert await last == 2
        live.close()

    asyncio.run(scenario())


def test_a_deadline_ends_the_work_and_frees_the_engine(run: Run):
    async def scenario() -> None:
        live, blocker = engine(), Blocker()
        start = time.perf_counter()
        with pytest.raises(DeadlineError):
            await live.submit(run, blocker, deadline=0.1)
        assert time.perf_counter() - start < 2
        await until(lambda: blocker.stopped)
        assert await live.submit(run, lambda *_: "next") == "next"
        live.close()

    asyncio.run(scenario())


def test_a_deadline_counts_the_waiting(run: Run):
    async def scenario() -> None:
        live, blocker, ran = engine(), Blocker(), []
        first = asyncio.create_task(live.submit(run, blocker))
        await until(blocker.started.is_set)
        with pytest.raises(DeadlineError):
            await live.submit(run, lambda *_: ran.append(1), deadline=0.05)
        blocker.go.set()
        await first
        await live.submit(run, lambda *_: None)
        assert not ran, "work that nobody waited for ran all the same"
        live.close()

    asyncio.run(scenario())


def test_cancelling_stops_the_work(run: Run):
    async def scenario() -> None:
        live, blocker = engine(), Blocker()
        task = asyncio.create_task(live.submit(run, blocker))
        await until(blocker.started.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: blocker.stopped)
        live.close()

    asyncio.run(scenario())


def test_progress_is_read_from_outside(run: Run):
    async def scenario() -> None:
        live, progress, go = engine(), Progress(), threading.Event()

        def work(_models: Any, noted: Progress) -> None:
            noted(3, 7)
            go.wait(5)

        task = asyncio.create_task(live.submit(run, work, progress=progress))
        await until(lambda: progress.done == 3)
        assert progress.total == 7
        go.set()
        await task
        live.close()

    asyncio.run(scenario())


def summing(batches: list[int]) -> Batchable[int, int]:
    def together(_models: Any, payloads: Sequence[int], progress: Progress) -> list[int]:
        progress()
        batches.append(len(payloads))
        if any(payload < 0 for payload in payloads):
            raise ValueError("negative")
        return [payload * 10 for payload in payloads]

    return Batchable("tens", together, lambda _: 1, 8)


def test_requests_that_wait_are_answered_together(run: Run):
    async def scenario() -> None:
        live, blocker, batches = engine(), Blocker(), []
        work = summing(batches)
        first = asyncio.create_task(live.submit(run, blocker))
        await until(blocker.started.is_set)
        waiting = [asyncio.create_task(live.submit_batchable(run, work, number)) for number in range(20)]
        await asyncio.sleep(0)
        blocker.go.set()
        await first
        assert await asyncio.gather(*waiting) == [number * 10 for number in range(20)]
        assert batches == [8, 8, 4]
        live.close()

    asyncio.run(scenario())


def test_one_bad_request_does_not_spoil_the_others(run: Run):
    async def scenario() -> None:
        live, blocker = engine(), Blocker()
        work = summing([])
        first = asyncio.create_task(live.submit(run, blocker))
        await until(blocker.started.is_set)
        waiting = [asyncio.create_task(live.submit_batchable(run, work, number)) for number in (1, -1, 2)]
        await asyncio.sleep(0)
        blocker.go.set()
        await first
        good, bad, also_good = await asyncio.gather(*waiting, return_exceptions=True)
        assert (good, also_good) == (10, 20)
        assert isinstance(bad, ValueError)
        live.close()

    asyncio.run(scenario())


def test_runs_are_never_mixed_and_few_models_stay(store: Path):
    loaded: list[str] = []

    def load(run: Run) -> Any:
        loaded.append(run.name)
        return run.name

    async def scenario() -> None:
        live = ModelQueue(load=load, models=1)
        opened = Store(store)
        work = Batchable("name", lambda models, payloads, _: [models for _ in payloads], lambda _: 1, 8)
        for name in (RUN, RUN, UNEVEN, RUN):
            assert await live.submit_batchable(opened.run(name), work, None) == name
        live.close()

    asyncio.run(scenario())
    assert loaded == [RUN, UNEVEN, RUN]


def test_a_model_that_is_not_here_fails_its_requests_alone(store: Path, run: Run):
    async def scenario() -> None:
        live = ModelQueue()
        with pytest.raises(ModelNotHereError):
            await live.submit(run, lambda *_: 1)
        with pytest.raises(ModelNotHereError):
            await live.submit(run, lambda *_: 1)
        live.close()

    asyncio.run(scenario())


def test_closing_answers_everybody(run: Run):
    async def scenario() -> None:
        live, blocker = engine(), Blocker()
        running = asyncio.create_task(live.submit(run, blocker))
        await until(blocker.started.is_set)
        waiting = asyncio.create_task(live.submit(run, lambda *_: 1))
        await asyncio.sleep(0)
        await asyncio.to_thread(live.close)
        with pytest.raises(BusyError):
            await waiting
        with pytest.raises(BusyError):
            await running
        with pytest.raises(BusyError):
            await live.submit(run, lambda *_: 1)
        assert blocker.stopped

    asyncio.run(scenario())
