"""Live inference: one thread that runs models, a bounded queue before it, deadlines, batches across requests."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import structlog

from tegakari.schemas.errors import BusyError, DeadlineError
from tegakari.store import Run

if TYPE_CHECKING:
    from tegakari.analyses.engine.run_models import RunModels

T = TypeVar("T")
P = TypeVar("P")

log = structlog.get_logger()


class StoppedError(Exception):
    """Nobody waits for this work any more. Raised in it by `Progress`, and never shown."""


class Progress:
    """What a piece of work says about itself, and how it learns that nobody waits for it any more.

    Work calls it between its steps; any thread may read `done` and `total`.
    """

    def __init__(self) -> None:
        self.done = 0
        self.total: int | None = None
        self.between: Callable[[], object] | None = None
        """called at each step, in the thread of the work"""
        self._stopped = threading.Event()

    def __call__(self, done: int | None = None, total: int | None = None) -> None:
        """Note how far the work is.

        Raises:
            StoppedError: to end it here.
        """
        self.done = self.done if done is None else done
        self.total = self.total if total is None else total
        if self._stopped.is_set():
            raise StoppedError
        if self.between:
            self.between()

    def stage(self, name: str, total: int | None = None, *, done: int = 0) -> None:
        """Begin a stage of the work; see `tegakari.schemas.progress.Progress`."""
        self(done, total)

    def advance(self, steps: int = 1) -> None:
        """Count finished steps of the stage."""
        self(self.done + steps)

    def note(self, text: str) -> None:
        """Texts beside a stage are not shown."""

    def stop(self) -> None:
        """Have the work end at its next step."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()


class Batchable(NamedTuple, Generic[P, T]):
    """Work that answers several requests together, one answer for each of the payloads."""

    key: Hashable
    """requests of the same run with the same key may be answered together."""
    together: Callable[[RunModels, Sequence[P], Progress], Sequence[T]]
    size: Callable[[P], int]
    """of a payload, in the unit of `most`."""
    most: int
    """largest size that is answered together."""
    patient: bool = False
    """whether what waits is answered between its steps, if it is not patient itself."""


@dataclass(eq=False)
class _Job:
    run: Run
    work: Batchable[Any, Any]
    payload: Any
    progress: Progress
    answer: Future[Any] = field(default_factory=Future)

    def joins(self, other: _Job) -> bool:
        mine, theirs = self.run.manifest.checksum, other.run.manifest.checksum
        return self.work.key is not None and self.work.key == other.work.key and mine == theirs


class _Together(Progress):
    """The progress of several jobs at once: they stop when all of them have."""

    def __init__(self, jobs: Sequence[_Job]) -> None:
        super().__init__()
        self._jobs = jobs

    def __call__(self, done: int | None = None, total: int | None = None) -> None:
        self.done = self.done if done is None else done
        for job in self._jobs:
            job.progress.done = job.progress.done if done is None else done
            job.progress.total = job.progress.total if total is None else total
        if all(job.progress.stopped for job in self._jobs):
            raise StoppedError
        if self.between:
            self.between()


class ModelQueue:
    """The engine of one process. Requests are answered in the order in which they came."""

    def __init__(
        self,
        *,
        waiting: int = 64,
        models: int = 2,
        deadline: float = 60.0,
        load: Callable[[Run], RunModels] | None = None,
    ) -> None:
        """Nothing is loaded before it is asked for.

        Args:
            waiting: requests that may wait; more are refused.
            models: runs whose models stay in memory, those used last.
            deadline: seconds that a request may take, waiting included, unless it says otherwise.
            load: gives the models of a run; default: `load_run_models`.
        """
        self._most_waiting = waiting
        self._most_models = models
        self._deadline = deadline
        self._load = load or _load
        self._models: OrderedDict[str, RunModels] = OrderedDict()
        self._waiting: deque[_Job] = deque()
        self._running: list[_Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    async def submit(
        self,
        run: Run,
        work: Callable[[RunModels, Progress], T],
        *,
        deadline: float | None = None,
        progress: Progress | None = None,
    ) -> T:
        """Run a piece of work on a run's models; it is alone on them while it runs.

        Cancelling the call ends the work at its next step, as the deadline does.

        Args:
            run: whose models it needs.
            work: called in the engine's thread; it calls the progress between its steps.
            deadline: seconds from now, waiting included; default: the engine's; infinity: none.
            progress: to be read from outside; made if not given.

        Raises:
            BusyError: the queue is full, or the service is shutting down.
            DeadlineError: no answer within the deadline.
            ModelNotHereError: the run's models are not on this machine.
        """
        alone = Batchable[None, T](None, lambda models, _, noted: [work(models, noted)], lambda _: 1, 1)
        return await self._answer(_Job(run, alone, None, progress or Progress()), deadline)

    async def submit_batchable(
        self,
        run: Run,
        work: Batchable[P, T],
        payload: P,
        *,
        deadline: float | None = None,
        progress: Progress | None = None,
    ) -> T:
        """As `submit`, together with what else waits for the same work."""
        return await self._answer(_Job(run, work, payload, progress or Progress()), deadline)

    async def _answer(self, job: _Job, deadline: float | None) -> Any:
        self._enqueue(job)
        seconds = self._deadline if deadline is None else deadline
        try:
            async with asyncio.timeout(None if seconds == float("inf") else seconds):
                return await asyncio.wrap_future(job.answer)
        except StoppedError:
            raise _shutting_down() from None
        except TimeoutError:
            raise DeadlineError(
                f"no answer within {seconds:g} s", fix="ask for less, or again when the server is less busy"
            ) from None
        finally:
            job.progress.stop()  # a no-op for work that is done

    def _enqueue(self, job: _Job) -> None:
        with self._changed:
            if self._closed:
                raise _shutting_down()
            if len(self._waiting) >= self._most_waiting:
                self._waiting = deque(waiting for waiting in self._waiting if not waiting.progress.stopped)
            if len(self._waiting) >= self._most_waiting:
                raise BusyError(f"{self._most_waiting} requests wait for the models already", fix="ask again later")
            self._waiting.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="live", daemon=True)
                self._thread.start()
            self._changed.notify()

    @property
    def waiting(self) -> int:
        """Requests in the queue now."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether a model runs now."""
        return bool(self._running)

    def _work(self) -> None:
        while jobs := self._next():
            self._run(jobs)
            with self._changed:
                self._running = []

    def _next(self) -> list[_Job]:
        """Wait for the next job, and take those that can be answered with it. None once the engine is closed."""
        with self._changed:
            while True:
                while self._waiting and self._waiting[0].progress.stopped:
                    self._waiting.popleft()
                if self._closed or self._waiting:
                    break
                self._changed.wait()
            if self._closed:
                return []
            self._running = self._with_others(self._waiting.popleft())
            return self._running

    def _with_others(self, first: _Job) -> list[_Job]:
        """A job that waited no longer, and what waits and can be answered with it."""
        jobs = [first]
        size = first.work.size(first.payload)
        for job in list(self._waiting):
            mine = 0 if job.progress.stopped else job.work.size(job.payload)
            if mine and job.joins(first) and size + mine <= job.work.most:
                size += mine
                self._waiting.remove(job)
                jobs.append(job)
        return jobs

    def _run_impatient(self) -> None:
        """Between two steps of patient work: answer what waits and is not patient, of runs whose models are here."""
        while True:
            with self._changed:
                for job in self._waiting:
                    if not (job.work.patient or job.progress.stopped or self._closed) and _key(job.run) in self._models:
                        break
                else:
                    return
                self._waiting.remove(job)
                outer, jobs = self._running, self._with_others(job)
                self._running = [*outer, *jobs]
            self._run(jobs)
            with self._changed:
                self._running = outer

    def _run(self, jobs: list[_Job]) -> None:
        progress = jobs[0].progress if len(jobs) == 1 else _Together(jobs)
        progress.between = self._run_impatient if jobs[0].work.patient else None
        try:
            models = self._models_of(jobs[0].run)
            progress()
            answers = jobs[0].work.together(models, [job.payload for job in jobs], progress)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
            if len(jobs) > 1 and not isinstance(error, StoppedError):
                for job in jobs:  # one of them may be at fault for all
                    self._run([job])
                return
            for job in jobs:
                _settle(job.answer, error=error)
            return
        for job, answer in zip(jobs, answers, strict=True):
            _settle(job.answer, answer)

    def _models_of(self, run: Run) -> RunModels:
        key = _key(run)
        if key not in self._models:
            while len(self._models) >= self._most_models:
                self._models.popitem(last=False)  # before the next is loaded: both may not fit
            self._models[key] = self._load(run)
            log.info("models loaded", run=run.name)
        self._models.move_to_end(key)
        return self._models[key]

    def close(self) -> None:
        """Stop what runs, refuse what waits, and end the thread."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = list(self._waiting), deque()
            running = list(self._running)
            self._changed.notify_all()
        for job in waiting:
            _settle(job.answer, error=_shutting_down())
        for job in running:
            job.progress.stop()
        if self._thread is not None:
            self._thread.join(5)


def _key(run: Run) -> str:
    """Of a run's models."""
    return run.manifest.checksum or run.manifest.fingerprint


def _shutting_down() -> BusyError:
    return BusyError("the server is shutting down", fix="ask again once it is back")


def _settle(answer: Future[T], value: T | None = None, *, error: Exception | None = None) -> None:
    """Give an answer to whoever still waits for it."""
    if not answer.set_running_or_notify_cancel():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(value)  # type: ignore[arg-type]


def _load(run: Run) -> RunModels:
    from tegakari.analyses.engine.run_models import load_run_models  # torch: a service that only reads does without it

    return load_run_models(run)
