"""The model queue: order, bounds, deadlines, batches, cancelled requests."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tegakari.schemas.errors import BusyError, DeadlineError, ModelNotHereError
from tegakari.schemas.progress import Progress
from tegakari.service.engine.model_requests import BatchWork
from tegakari.service.engine.queue import ModelQueue
from tegakari.service.engine.work_progress import WorkProgress
from tegakari.store import Run, Store
from tests.support.service import RUN, UNEVEN


@pytest.fixture
def run(store: Path) -> Run:
    return Store(store).run(RUN)


def queue_of_names(**settings: Any) -> ModelQueue:
    """A queue whose models are the names of their runs: the queue does not depend on what models are."""
    return ModelQueue(load=lambda run: run.name, **settings)  # type: ignore[arg-type, return-value]


def alone(work: Callable[[Any, Progress], Any], *, long: bool = False) -> BatchWork[None, Any]:
    """Work that shares its call with no other request."""
    return BatchWork(lambda load_models, _, progress: [work(load_models(), progress)], long=long)


def stepping(steps: int, seconds: float = 0.025) -> Callable[[Any, Progress], float]:
    """Work of some steps, each longer than a turn; its result is the time at its end."""

    def work(_models: Any, progress: Progress) -> float:
        for _ in range(steps):
            time.sleep(seconds)
            progress.advance()
        return time.perf_counter()

    return work


class Blocker:
    """Work that runs until it is released or cancelled."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.released = threading.Event()
        self.cancelled = False

    def __call__(self, _models: Any, progress: Progress) -> str:
        self.started.set()
        try:
            while not self.released.wait(0.005):
                progress.advance(0)
        except BaseException:
            self.cancelled = True
            raise
        return "done"


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the condition did not become true")


def test_work_gets_the_models_of_its_run(run: Run):
    async def scenario() -> None:
        queue = queue_of_names()
        assert await queue.submit(run, alone(lambda models, _: f"{models} answered"), None) == f"{RUN} answered"
        queue.close()

    asyncio.run(scenario())


def test_requests_run_one_at_a_time_in_order_of_arrival(run: Run):
    running, order, simultaneous = [0], [], []

    def work(number: int) -> Callable[[Any, Progress], None]:
        def step(_models: Any, _progress: Progress) -> None:
            running[0] += 1
            simultaneous.append(running[0])
            time.sleep(0.002)
            order.append(number)
            running[0] -= 1

        return step

    async def scenario() -> None:
        queue = queue_of_names()
        await asyncio.gather(*(queue.submit(run, alone(work(number)), None) for number in range(20)))
        queue.close()

    asyncio.run(scenario())
    assert order == list(range(20))
    assert set(simultaneous) == {1}


def test_a_full_queue_refuses_requests_at_once(run: Run):
    async def scenario() -> None:
        queue, blocker = queue_of_names(max_waiting=3), Blocker()
        first = asyncio.create_task(queue.submit(run, alone(blocker), None))
        await until(blocker.started.is_set)
        others = [asyncio.create_task(queue.submit(run, alone(lambda *_: 1), None)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError) as refused:
            await queue.submit(run, alone(lambda *_: 1), None)
        assert refused.value.retry_after > 0
        others[0].cancel()  # a cancelled request leaves the queue
        await asyncio.sleep(0.01)
        last = asyncio.create_task(queue.submit(run, alone(lambda *_: 2), None))
        await asyncio.sleep(0)
        blocker.released.set()
        assert await first == "done"
        assert await last == 2
        queue.close()

    asyncio.run(scenario())


def test_a_deadline_ends_the_work_and_frees_the_queue(run: Run):
    async def scenario() -> None:
        queue, blocker = queue_of_names(), Blocker()
        start = time.perf_counter()
        with pytest.raises(DeadlineError):
            await queue.submit(run, alone(blocker), None, deadline=0.1)
        assert time.perf_counter() - start < 10
        await until(lambda: blocker.cancelled)
        assert await queue.submit(run, alone(lambda *_: "next"), None) == "next"
        queue.close()

    asyncio.run(scenario())


def test_a_deadline_includes_the_time_in_the_queue(run: Run):
    async def scenario() -> None:
        queue, blocker, ran = queue_of_names(), Blocker(), []
        first = asyncio.create_task(queue.submit(run, alone(blocker), None))
        await until(blocker.started.is_set)
        with pytest.raises(DeadlineError):
            await queue.submit(run, alone(lambda *_: ran.append(1)), None, deadline=0.05)
        blocker.released.set()
        await first
        await queue.submit(run, alone(lambda *_: None), None)
        assert not ran, "work of a request past its deadline ran"
        queue.close()

    asyncio.run(scenario())


def test_cancelling_a_request_ends_its_work(run: Run):
    async def scenario() -> None:
        queue, blocker = queue_of_names(), Blocker()
        task = asyncio.create_task(queue.submit(run, alone(blocker), None))
        await until(blocker.started.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: blocker.cancelled)
        queue.close()

    asyncio.run(scenario())


def test_progress_can_be_read_from_outside(run: Run):
    async def scenario() -> None:
        queue, progress, released = queue_of_names(), WorkProgress(), threading.Event()

        def work(_models: Any, progress: Progress) -> None:
            progress.stage("batches", 7)
            progress.advance(3)
            released.wait(5)

        task = asyncio.create_task(queue.submit(run, alone(work), None, progress=progress))
        await until(lambda: progress.done == 3)
        assert progress.total == 7
        released.set()
        await task
        queue.close()

    asyncio.run(scenario())


def summing(batches: list[int]) -> BatchWork[int, int]:
    def compute(_models: Any, payloads: Sequence[int], progress: Progress) -> list[int]:
        progress.advance()
        batches.append(len(payloads))
        if any(payload < 0 for payload in payloads):
            raise ValueError("negative")
        return [payload * 10 for payload in payloads]

    return BatchWork(compute, key=lambda _: "tens")


def test_waiting_requests_share_calls(run: Run):
    async def scenario() -> None:
        queue, blocker, batches = queue_of_names(), Blocker(), []
        work = summing(batches)
        first = asyncio.create_task(queue.submit(run, alone(blocker), None))
        await until(blocker.started.is_set)
        waiting = [asyncio.create_task(queue.submit(run, work, number, tokens=512)) for number in range(20)]
        await asyncio.sleep(0)
        blocker.released.set()
        await first
        assert await asyncio.gather(*waiting) == [number * 10 for number in range(20)]
        assert batches == [8, 8, 4]
        queue.close()

    asyncio.run(scenario())


def test_one_failing_request_does_not_fail_its_batch(run: Run):
    async def scenario() -> None:
        queue, blocker = queue_of_names(), Blocker()
        work = summing([])
        first = asyncio.create_task(queue.submit(run, alone(blocker), None))
        await until(blocker.started.is_set)
        waiting = [asyncio.create_task(queue.submit(run, work, number)) for number in (1, -1, 2)]
        await asyncio.sleep(0)
        blocker.released.set()
        await first
        good, bad, also_good = await asyncio.gather(*waiting, return_exceptions=True)
        assert (good, also_good) == (10, 20)
        assert isinstance(bad, ValueError)
        queue.close()

    asyncio.run(scenario())


def test_batches_never_mix_runs_and_few_models_stay_in_memory(store: Path):
    loaded: list[str] = []

    def load(run: Run) -> Any:
        loaded.append(run.name)
        return run.name

    async def scenario() -> None:
        queue = ModelQueue(load=load, max_models=1)
        opened = Store(store)
        work = BatchWork(lambda load_models, payloads, _: [load_models() for _ in payloads], key=lambda _: "name")
        for name in (RUN, RUN, UNEVEN, RUN):
            assert await queue.submit(opened.run(name), work, None) == name
        queue.close()

    asyncio.run(scenario())
    assert loaded == [RUN, UNEVEN, RUN]


def test_a_missing_model_fails_each_request(store: Path, run: Run):
    async def scenario() -> None:
        queue = ModelQueue()
        with pytest.raises(ModelNotHereError):
            await queue.submit(run, alone(lambda *_: 1), None)
        with pytest.raises(ModelNotHereError):
            await queue.submit(run, alone(lambda *_: 1), None)
        queue.close()

    asyncio.run(scenario())


def test_closing_refuses_all_requests(run: Run):
    async def scenario() -> None:
        queue, blocker = queue_of_names(), Blocker()
        running = asyncio.create_task(queue.submit(run, alone(blocker), None))
        await until(blocker.started.is_set)
        waiting = asyncio.create_task(queue.submit(run, alone(lambda *_: 1), None))
        await asyncio.sleep(0)
        await asyncio.to_thread(queue.close)
        with pytest.raises(BusyError):
            await waiting
        with pytest.raises(BusyError):
            await running
        with pytest.raises(BusyError):
            await queue.submit(run, alone(lambda *_: 1), None)
        assert blocker.cancelled

    asyncio.run(scenario())


def test_short_requests_and_the_steps_of_a_long_one_take_turns(run: Run):
    order: list[str] = []
    submitted = threading.Event()

    def long(_models: Any, progress: Progress) -> None:
        for step in range(6):
            order.append(f"step {step}")
            submitted.wait(10)
            time.sleep(0.025)
            progress.advance()

    async def scenario() -> None:
        queue = queue_of_names()
        job = asyncio.create_task(queue.submit(run, alone(long, long=True), None))
        await until(lambda: bool(order))
        shorts = [
            asyncio.create_task(queue.submit(run, alone(lambda *_, n=n: order.append(f"short {n}")), None))
            for n in range(3)
        ]
        await until(lambda: queue.waiting == 3)
        submitted.set()
        await asyncio.gather(job, *shorts)
        queue.close()

    asyncio.run(scenario())
    assert order == ["step 0", "short 0", "step 1", "short 1", "step 2", "short 2", "step 3", "step 4", "step 5"]


def test_long_requests_of_two_clients_share_the_time(run: Run):
    async def scenario() -> None:
        queue = queue_of_names()
        greedy = [
            asyncio.create_task(queue.submit(run, alone(stepping(12), long=True), None, client="greedy"))
            for _ in range(3)
        ]
        await asyncio.sleep(0.05)
        modest = asyncio.create_task(queue.submit(run, alone(stepping(8), long=True), None, client="modest"))
        modest_end, *greedy_ends = await asyncio.gather(modest, *greedy)
        assert modest_end < greedy_ends[1], "the second job of one client ran before the first of another"
        assert modest_end < greedy_ends[0] + 0.2
        queue.close()

    asyncio.run(scenario())


def test_many_requests_of_one_client_delay_another_by_one_turn(run: Run):
    order: list[str] = []

    def work(name: str) -> Callable[[Any, Progress], None]:
        def step(_models: Any, _progress: Progress) -> None:
            time.sleep(0.025)
            order.append(name)

        return step

    async def scenario() -> None:
        queue = queue_of_names()
        flood = [asyncio.create_task(queue.submit(run, alone(work("flood")), None, client="a")) for _ in range(20)]
        await until(lambda: len(order) >= 3)
        before = len(order)
        await queue.submit(run, alone(work("single")), None, client="b")
        assert order.index("single") <= before + 1
        await asyncio.gather(*flood)
        queue.close()

    asyncio.run(scenario())


def test_a_client_cannot_fill_the_queue(run: Run):
    async def scenario() -> None:
        queue, blocker = queue_of_names(max_waiting_per_client=3), Blocker()
        first = asyncio.create_task(queue.submit(run, alone(blocker), None, client="a"))
        await until(blocker.started.is_set)
        others = [asyncio.create_task(queue.submit(run, alone(lambda *_: 1), None, client="a")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="of this client"):
            await queue.submit(run, alone(lambda *_: 1), None, client="a")
        other = asyncio.create_task(queue.submit(run, alone(lambda *_: 2), None, client="b"))
        await asyncio.sleep(0)
        blocker.released.set()
        assert await other == 2
        await asyncio.gather(first, *others)
        assert await queue.submit(run, alone(lambda *_: 3), None, client="a") == 3
        queue.close()

    asyncio.run(scenario())


def test_a_cancelled_request_ends_while_it_waits_for_its_turn(run: Run):
    async def scenario() -> None:
        queue, first, second = queue_of_names(), Blocker(), Blocker()
        tasks = [
            asyncio.create_task(queue.submit(run, alone(blocker, long=True), None, client=name))
            for name, blocker in (("a", first), ("b", second))
        ]
        await until(lambda: first.started.is_set() and second.started.is_set())
        for task, blocker in zip(tasks, (first, second), strict=True):
            task.cancel()
            await until(lambda blocker=blocker: blocker.cancelled)
        assert await queue.submit(run, alone(lambda *_: "free"), None) == "free"
        queue.close()

    asyncio.run(scenario())


def test_models_of_a_third_run_wait_for_room_and_are_not_forgotten(store: Path):
    """Two runs in memory at most: requests for both keep coming, and one for a third gets its turn all the same."""
    opened = Store(store)
    runs = [opened.run(RUN), opened.run(UNEVEN)]
    loaded: list[str] = []

    async def scenario() -> None:
        queue = ModelQueue(load=lambda run: loaded.append(run.name) or run.name, max_models=1)  # type: ignore
        stop = asyncio.Event()

        async def keep_busy(client: str) -> None:
            while not stop.is_set():
                await queue.submit(runs[0], alone(stepping(2, 0.02)), None, client=client)

        busy = [asyncio.create_task(keep_busy(client)) for client in "abc"]
        await until(lambda: bool(loaded))
        assert await queue.submit(runs[1], alone(lambda models, _: models), None, client="d", deadline=5) == UNEVEN
        stop.set()
        await asyncio.gather(*busy)
        queue.close()

    asyncio.run(scenario())
    assert loaded[:2] == [RUN, UNEVEN]


def test_what_long_work_does_before_it_asks_for_the_models_holds_up_nobody(run: Run):
    planning, planned = threading.Event(), threading.Event()

    def plan_and_compute(load_models: Callable[[], Any], _payloads: Any, progress: Progress) -> list[Any]:
        planning.set()
        while not planned.wait(0.005):
            progress.advance(0)
        return [load_models()]

    async def scenario() -> None:
        queue = queue_of_names()
        for end in (planned.set, None):
            job = asyncio.create_task(queue.submit(run, BatchWork(plan_and_compute, long=True), None))
            await until(planning.is_set)
            for number in range(3):
                assert await queue.submit(run, alone(lambda *_, number=number: number), None) == number
            assert not job.done()
            if end:
                end()
                assert await job == RUN
                planning.clear()
                planned.clear()
        job.cancel()  # also while it plans
        with pytest.raises(asyncio.CancelledError):
            await job
        await until(lambda: not queue._calls)
        queue.close()

    asyncio.run(scenario())
