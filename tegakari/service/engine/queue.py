"""The queue before the models of a process: one thread runs them; the queue is bounded and batches requests."""

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
from tegakari.schemas.progress import CancelledWorkError, Progress
from tegakari.service.engine.work_progress import BatchProgress, WorkProgress
from tegakari.store import Run

if TYPE_CHECKING:
    from tegakari.analyses.engine.run_models import RunModels

T = TypeVar("T")
P = TypeVar("P")

log = structlog.get_logger()

MAX_BATCH_TEXTS = 64
"""Texts of several requests in one call of the models."""


class BatchWork(NamedTuple, Generic[P, T]):
    """Work that computes the results of several requests in one call."""

    key: Hashable
    """requests of the same run with the same key share a call; None: each has its own."""
    compute: Callable[[RunModels, Sequence[P], Progress], Sequence[T]]
    """from the payloads of the requests to one result per payload, in the thread of the queue"""
    size: Callable[[P], int]
    """of a payload, in the unit of `max_size`"""
    max_size: int
    """largest sum of sizes in one call"""
    interruptible: bool = False
    """whether requests for work that is not interruptible run between its steps"""


@dataclass(eq=False)
class _Request:
    run: Run
    work: BatchWork[Any, Any]
    payload: Any
    progress: WorkProgress
    result: Future[Any] = field(default_factory=Future)

    def shares_call_with(self, other: _Request) -> bool:
        same_run = self.run.manifest.checksum == other.run.manifest.checksum
        return self.work.key is not None and self.work.key == other.work.key and same_run


class ModelQueue:
    """Runs the models of a process. Requests run in the order of their arrival."""

    def __init__(
        self,
        *,
        max_waiting: int = 64,
        max_models: int = 2,
        deadline: float = 60.0,
        load: Callable[[Run], RunModels] | None = None,
    ) -> None:
        """Models are loaded with the first request that needs them.

        Args:
            max_waiting: requests in the queue; further ones are refused.
            max_models: runs whose models stay in memory, those used last.
            deadline: default seconds per request, waiting included.
            load: loads the models of a run; default: `load_run_models`.
        """
        self._max_waiting = max_waiting
        self._max_models = max_models
        self._deadline = deadline
        self._load = load or _load_run_models
        self._models: OrderedDict[str, RunModels] = OrderedDict()
        self._waiting: deque[_Request] = deque()
        self._running: list[_Request] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    async def submit(
        self,
        run: Run,
        work: BatchWork[P, T],
        payload: P,
        *,
        deadline: float | None = None,
        progress: WorkProgress | None = None,
    ) -> T:
        """Run work on a run's models, in one call with waiting requests for the same work.

        Cancelling the coroutine ends the work at its next step, as the deadline does.

        Args:
            run: whose models the work needs.
            work: runs in the thread of the queue; nothing else runs models meanwhile.
            payload: of this request.
            deadline: seconds from now, waiting included; default: the queue's; infinity: none.
            progress: to read the progress of the request from outside; default: a new one.

        Raises:
            BusyError: the queue is full, or the service is shutting down.
            DeadlineError: no result within the deadline.
            ModelNotHereError: the run's models are not on this machine.
        """
        request = _Request(run, work, payload, progress or WorkProgress())
        self._enqueue(request)
        seconds = self._deadline if deadline is None else deadline
        try:
            async with asyncio.timeout(None if seconds == float("inf") else seconds):
                return await asyncio.wrap_future(request.result)
        except CancelledWorkError:
            raise _shutting_down() from None
        except TimeoutError:
            raise DeadlineError(
                f"no result within {seconds:g} s",
                fix="send a smaller request, or repeat it when the server is less busy",
            ) from None
        finally:
            request.progress.cancel()  # no effect on finished work

    def _enqueue(self, request: _Request) -> None:
        with self._changed:
            if self._closed:
                raise _shutting_down()
            if len(self._waiting) >= self._max_waiting:
                self._waiting = deque(waiting for waiting in self._waiting if not waiting.progress.cancelled)
            if len(self._waiting) >= self._max_waiting:
                raise BusyError(f"{self._max_waiting} requests already wait for the models", fix="retry later")
            self._waiting.append(request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run_requests, name="models", daemon=True)
                self._thread.start()
            self._changed.notify()

    @property
    def waiting(self) -> int:
        """Number of requests in the queue."""
        return len(self._waiting)

    @property
    def loaded(self) -> int:
        """Number of runs whose models are in memory."""
        return len(self._models)

    @property
    def busy(self) -> bool:
        """Whether a model is running."""
        return bool(self._running)

    def _run_requests(self) -> None:
        while batch := self._next_batch():
            self._run(batch)
            with self._changed:
                self._running = []

    def _next_batch(self) -> list[_Request]:
        """Wait for a request and take those that share its call. Empty once the queue is closed."""
        with self._changed:
            while True:
                while self._waiting and self._waiting[0].progress.cancelled:
                    self._waiting.popleft()
                if self._closed or self._waiting:
                    break
                self._changed.wait()
            if self._closed:
                return []
            self._running = self._batch_of(self._waiting.popleft())
            return self._running

    def _batch_of(self, first: _Request) -> list[_Request]:
        """A request that has left the queue, and waiting ones that share its call; these leave the queue too."""
        batch = [first]
        batch_size = first.work.size(first.payload)
        for request in list(self._waiting):
            size = 0 if request.progress.cancelled else request.work.size(request.payload)
            if size and request.shares_call_with(first) and batch_size + size <= request.work.max_size:
                batch_size += size
                self._waiting.remove(request)
                batch.append(request)
        return batch

    def _run_short_requests(self) -> None:
        """Between two steps of interruptible work: run waiting requests that are not, if their models are loaded."""
        while True:
            with self._changed:
                for request in self._waiting:
                    short = not request.work.interruptible and not request.progress.cancelled
                    if short and not self._closed and _models_key(request.run) in self._models:
                        break
                else:
                    return
                self._waiting.remove(request)
                interrupted, batch = self._running, self._batch_of(request)
                self._running = [*interrupted, *batch]
            self._run(batch)
            with self._changed:
                self._running = interrupted

    def _run(self, batch: list[_Request]) -> None:
        work = batch[0].work
        progress = batch[0].progress if len(batch) == 1 else BatchProgress([request.progress for request in batch])
        progress.between_steps = self._run_short_requests if work.interruptible else None
        try:
            models = self._models_of(batch[0].run)
            progress.check()
            results = work.compute(models, [request.payload for request in batch], progress)
        except Exception as error:  # noqa: BLE001 - raised where the result is awaited
            if len(batch) > 1 and not isinstance(error, CancelledWorkError):
                for request in batch:  # a single request may have caused it
                    self._run([request])
                return
            for request in batch:
                _settle(request.result, error=error)
            return
        for request, result in zip(batch, results, strict=True):
            _settle(request.result, result)

    def _models_of(self, run: Run) -> RunModels:
        key = _models_key(run)
        if key not in self._models:
            while len(self._models) >= self._max_models:
                self._models.popitem(last=False)  # before the next is loaded: both may not fit
            self._models[key] = self._load(run)
            log.info("models loaded", run=run.name)
        self._models.move_to_end(key)
        return self._models[key]

    def close(self) -> None:
        """Cancel running requests, refuse waiting ones, and end the thread."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = list(self._waiting), deque()
            running = list(self._running)
            self._changed.notify_all()
        for request in waiting:
            _settle(request.result, error=_shutting_down())
        for request in running:
            request.progress.cancel()
        if self._thread is not None:
            self._thread.join(5)


def _models_key(run: Run) -> str:
    return run.manifest.checksum or run.manifest.fingerprint


def _shutting_down() -> BusyError:
    return BusyError("the server is shutting down", fix="repeat the request once the server is back")


def _settle(future: Future[T], value: T | None = None, *, error: Exception | None = None) -> None:
    """Set the result or the error of a future that was not cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)  # type: ignore[arg-type]


def _load_run_models(run: Run) -> RunModels:
    from tegakari.analyses.engine.run_models import load_run_models  # imports torch, which a reading service spares

    return load_run_models(run)
