"""The queue before the models of a process: they work for one request at a time, and in turns for all clients.

The work of a request runs in a thread of its own, and calls `Progress` between short steps. There it hands the models
to the work whose turn it is and waits for its next turn, so that a short request overtakes a long one at any step.
What long work does before it asks for the models, such as planning, needs no turn.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from tegakari.schemas.errors import BusyError, DeadlineError
from tegakari.schemas.progress import CancelledWorkError
from tegakari.service.engine.fair_shares import FairShares
from tegakari.service.engine.model_requests import BatchWork, Call, Request, models_key
from tegakari.service.engine.work_progress import BatchProgress, WorkProgress
from tegakari.service.observe import metrics
from tegakari.store import Run

if TYPE_CHECKING:
    from tegakari.analyses.engine.run_models import RunModels

T = TypeVar("T")
P = TypeVar("P")

log = structlog.get_logger()

MAX_CALLS = 8
"""Calls of the models that have begun and not ended: each holds memory while it waits for its turn."""

MAX_LONG_CALLS = 4
"""Those of them that are long."""

MAX_SHARED_TOKENS = 4096
"""Tokens of requests that share a call."""

MAX_SHARED_JOBS = 32
"""Long requests that share a call."""

MODELS_IN_MEMORY = 2
"""Runs whose models stay in memory."""

TURN_SECONDS = 0.02
"""Time for which work keeps the models, up to its next step."""


class ModelQueue:
    """Runs the models of a process, in turns for all clients."""

    def __init__(
        self,
        *,
        max_waiting: int = 128,
        max_waiting_per_client: int = 64,
        max_models: int = MODELS_IN_MEMORY,
        deadline: float = 60.0,
        load: Callable[[Run], RunModels] | None = None,
    ) -> None:
        """Models are loaded with the first request that needs them.

        Args:
            max_waiting: requests whose work has not begun; further ones are refused.
            max_waiting_per_client: those of one client, begun or not.
            max_models: runs whose models stay in memory, those used last.
            deadline: default seconds per request, waiting included.
            load: loads the models of a run; default: `load_run_models`, with short steps.
        """
        self._max_waiting = max_waiting
        self._max_waiting_per_client = max_waiting_per_client
        self._max_models = max_models
        self._deadline = deadline
        self._load = load or _load_run_models
        self._models: OrderedDict[str, RunModels] = OrderedDict()
        self._numbers = itertools.count()
        self._waiting: list[Request[Any, Any]] = []
        self._calls: list[Call] = []
        self._turn: Call | None = None
        self._turn_began = 0.0
        self._shares = FairShares()
        self._last_turn_long: dict[str, bool] = {}
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._threads = ThreadPoolExecutor(MAX_CALLS, thread_name_prefix="models")
        self._closed = False

    async def submit(
        self,
        run: Run,
        work: BatchWork[P, T],
        payload: P,
        *,
        client: str = "",
        tokens: int = 1,
        deadline: float | None = None,
        progress: WorkProgress | None = None,
    ) -> T:
        """Run work on a run's models; `accept` and `result_of` in one.

        Raises:
            BusyError, DeadlineError, ModelNotHereError: as of these.
        """
        request = self.accept(run, work, payload, client=client, tokens=tokens, progress=progress)
        return await self.result_of(request, deadline=deadline)

    def accept(
        self,
        run: Run,
        work: BatchWork[P, T],
        payload: P,
        *,
        client: str = "",
        tokens: int = 1,
        progress: WorkProgress | None = None,
    ) -> Request[P, T]:
        """Put a request into the queue. Its result must be awaited with `result_of`.

        Args:
            run: whose models the work needs.
            work: runs while nothing else runs models, in one call with waiting requests of the same key.
            payload: of this request.
            client: who shares the time of the models with other clients.
            tokens: estimated cost.
            progress: to read the progress of the request from outside; default: a new one.

        Raises:
            BusyError: the queue is full, or the service is shutting down.
        """
        request = Request(next(self._numbers), run, work, payload, client, tokens, progress or WorkProgress())
        with self._lock:
            if self._closed:
                raise _shutting_down()
            if self._shares.requests(client) >= self._max_waiting_per_client or len(self._waiting) >= self._max_waiting:
                self._drop_cancelled()
            if self._shares.requests(client) >= self._max_waiting_per_client:
                raise BusyError(
                    f"{self._max_waiting_per_client} requests of this client already wait for the models",
                    fix="retry later",
                )
            if len(self._waiting) >= self._max_waiting:
                raise BusyError(f"{self._max_waiting} requests already wait for the models", fix="retry later")
            self._shares.join(client)
            self._waiting.append(request)
            metrics.MODEL_REQUESTS_WAITING.set(len(self._waiting))
            if self._turn is None:
                self._pass_turn()
            else:
                self._start_long()
        return request

    async def result_of(self, request: Request[P, T], *, deadline: float | None = None) -> T:
        """Wait for the result of a request. Cancelling the coroutine ends the work at its next step, as the deadline.

        Args:
            request: from `accept`.
            deadline: seconds from now, waiting included; default: the queue's; infinity: none.

        Raises:
            BusyError: the service is shutting down.
            DeadlineError: no result within the deadline.
            ModelNotHereError: the run's models are not on this machine.
        """
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
        return self._turn is not None

    def close(self) -> None:
        """Cancel running requests, refuse waiting ones, and end the threads."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, []
            for request in (request for call in self._calls for request in call.requests):
                request.progress.cancel()
            self._ended.wait_for(lambda: not self._calls, 5)
        for request in waiting:
            _settle(request.result, error=_shutting_down())
        self._threads.shutdown(wait=False)

    # The rest is called with the lock, except where it says otherwise.

    def _pass_turn(self) -> None:
        """Hand the models to the work whose turn it is; it is started if it is not yet."""
        self._turn = call = self._next_call()
        if call is None:
            return
        client = call.first.client
        self._shares.serve(client)
        self._last_turn_long[client] = call.first.work.long
        self._turn_began = time.perf_counter()
        call.has_turn.notify()

    def _next_call(self) -> Call | None:
        """The call whose turn it is. Cancelled ones come first: they end, and release their memory."""
        self._drop_cancelled()
        self._start_long()
        calls = [call for call in self._calls if call.wants_turn]
        candidates = [
            *calls,
            *(request for request in self._waiting if not request.work.long and self._can_start(request)),
        ]
        if not candidates:
            return None
        chosen = min(candidates, key=self._order)
        return chosen if isinstance(chosen, Call) else self._start(chosen)

    def _start_long(self) -> None:
        """Start long requests as far as they may: they plan first."""
        for request in [request for request in self._waiting if request.work.long]:
            if request in self._waiting and self._can_start(request):
                self._start(request)

    def _order(self, candidate: Call | Request[Any, Any]) -> tuple[Any, ...]:
        """Least time of the client; then the other kind of work than in the client's last turn; then arrival."""
        call_cancelled = isinstance(candidate, Call) and candidate.cancelled
        request = candidate.first if isinstance(candidate, Call) else candidate
        same_kind = self._last_turn_long.get(request.client) == request.work.long
        return not call_cancelled, self._shares.seconds(request.client), same_kind, request.number

    def _can_start(self, request: Request[Any, Any]) -> bool:
        """Whether a waiting request may start: one call per client and kind, within the limits of memory."""
        return self._has_slot(request) and self._has_models(request)

    def _has_slot(self, request: Request[Any, Any]) -> bool:
        long_calls = [call for call in self._calls if call.first.work.long]
        if len(self._calls) >= MAX_CALLS or (request.work.long and len(long_calls) >= MAX_LONG_CALLS):
            return False
        kind = request.client, request.work.long
        return all((call.first.client, call.first.work.long) != kind for call in self._calls)

    def _has_models(self, request: Request[Any, Any]) -> bool:
        """Whether the models are in memory, or those of another run can make room for them.

        While a request waits for such room, only short requests of models that a long call keeps in memory start.
        """
        in_use = {models_key(call.first.run) for call in self._calls}
        if len(in_use) < self._max_models:
            return True
        blocked = any(models_key(other.run) not in in_use and self._has_slot(other) for other in self._waiting)
        if not blocked:
            return models_key(request.run) in in_use
        kept = {models_key(call.first.run) for call in self._calls if call.first.work.long}
        return not request.work.long and models_key(request.run) in kept

    def _start(self, request: Request[Any, Any]) -> Call:
        """Begin a call for a waiting request and those that share it; all of them leave the queue."""
        requests, tokens = [request], request.tokens
        for other in self._waiting:
            if other is request or not other.shares_call_with(request):
                continue
            if len(requests) < MAX_SHARED_JOBS if request.work.long else tokens + other.tokens <= MAX_SHARED_TOKENS:
                requests.append(other)
                tokens += other.tokens
        self._waiting = [other for other in self._waiting if other not in requests]
        metrics.MODEL_REQUESTS_WAITING.set(len(self._waiting))
        call = Call(requests, self._lock)
        self._calls.append(call)
        self._threads.submit(self._run, call)
        return call

    def _drop_cancelled(self) -> None:
        for request in self._waiting:
            if request.progress.cancelled:
                self._shares.leave(request.client)
        self._waiting = [request for request in self._waiting if not request.progress.cancelled]
        metrics.MODEL_REQUESTS_WAITING.set(len(self._waiting))

    def _charge(self, call: Call) -> None:
        seconds, tokens = time.perf_counter() - self._turn_began, sum(request.tokens for request in call.requests)
        for request in call.requests:
            self._shares.charge(request.client, seconds * request.tokens / tokens)

    # Called in the threads of calls, without the lock.

    def _run(self, call: Call) -> None:
        if call.wants_turn:
            self._wait_for_turn(call)
        try:
            self._compute(call, call.requests)
        finally:
            with self._lock:
                self._calls.remove(call)
                if self._turn is call:
                    self._charge(call)
                    self._turn = None
                for request in call.requests:
                    self._shares.leave(request.client)
                if self._turn is None:
                    self._pass_turn()
                else:
                    self._start_long()
                self._ended.notify_all()

    def _wait_for_turn(self, call: Call) -> None:
        with self._lock:
            call.wants_turn = True
            if self._turn is None:
                self._pass_turn()
            call.has_turn.wait_for(lambda: self._turn is call)

    def _step(self, call: Call) -> None:
        """Between two steps: let others have their turn."""
        if self._turn is not call or time.perf_counter() - self._turn_began < TURN_SECONDS:
            return
        with self._lock:
            self._charge(call)
            self._pass_turn()
            call.has_turn.wait_for(lambda: self._turn is call)

    def _compute(self, call: Call, requests: Sequence[Request[Any, Any]]) -> None:
        work = requests[0].work
        progress = requests[0].progress
        if len(requests) > 1:
            progress = BatchProgress([request.progress for request in requests])
        progress.between_steps = partial(self._step, call)

        def load_models() -> RunModels:
            self._wait_for_turn(call)
            progress.check()
            run = requests[0].run
            progress.record_loading(models_key(run) not in self._models)
            try:
                return self._models_of(run)
            finally:
                progress.record_loading(False)

        try:
            progress.check()
            results = work.compute(load_models, [request.payload for request in requests], progress)
        except Exception as error:  # noqa: BLE001 - raised where the result is awaited
            if len(requests) > 1 and not isinstance(error, CancelledWorkError):
                for request in requests:  # a single request may have caused it
                    self._compute(call, [request])
                return
            for request in requests:
                _settle(request.result, error=error)
            return
        for request, result in zip(requests, results, strict=True):
            _settle(request.result, result)

    def _models_of(self, run: Run) -> RunModels:
        """Models of a run; those of another run leave the memory first, because both may not fit."""
        key = models_key(run)
        if key not in self._models:
            with self._lock:
                in_use = {models_key(call.first.run) for call in self._calls}
            for other in [other for other in self._models if other not in in_use]:
                if len(self._models) >= self._max_models:
                    del self._models[other]
            self._models[key] = self._load(run)
            log.info("models loaded", run=run.name)
        self._models.move_to_end(key)
        return self._models[key]


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
    # They import torch, which a reading service spares.
    from tegakari.analyses.engine.run_models import load_run_models
    from tegakari.analyses.engine.step_size import with_short_steps

    with metrics.MODEL_LOAD_SECONDS.time():
        return with_short_steps(load_run_models(run))
