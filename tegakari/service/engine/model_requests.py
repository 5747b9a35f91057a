"""Requests that run models, and the calls of the models in which they are computed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from tegakari.schemas.progress import Progress
from tegakari.service.engine.work_progress import WorkProgress
from tegakari.store import Run

if TYPE_CHECKING:
    from tegakari.analyses.engine.model_loader import ModelLoader

T = TypeVar("T")
P = TypeVar("P")


class BatchWork(NamedTuple, Generic[P, T]):
    """Work that computes the results of several requests in one call."""

    compute: Callable[[ModelLoader, Sequence[P], Progress], Sequence[T]]
    """from the payloads of the requests to one result per payload, in a thread of the queue; the models of the run come
    with a turn, and nothing else runs models until the next call of `Progress`"""
    key: Callable[[P], Hashable] | None = None
    """requests of the same run with the same key share a call, long ones if they are of one client; None: none share"""
    long: bool = False
    """whether it is computed beside the other requests of its client, as a job, and plans before it has a turn"""


class Request(Generic[P, T]):
    """A request that the queue has accepted."""

    def __init__(
        self, number: int, run: Run, work: BatchWork[P, T], payload: P, client: str, tokens: int, progress: WorkProgress
    ) -> None:
        self.number = number
        """in order of arrival"""
        self.run = run
        self.work = work
        self.payload = payload
        self.client = client
        self.tokens = tokens
        self.progress = progress
        self.result: Future[T] = Future()
        self.key = work.key(payload) if work.key else None

    def shares_call_with(self, other: Request[Any, Any]) -> bool:
        """Whether both are computed in one call, if it is not too large."""
        same_work = self.work == other.work and self.key is not None and self.key == other.key
        same_client = not self.work.long or self.client == other.client
        return same_work and same_client and models_key(self.run) == models_key(other.run)


class Call:
    """Requests that are computed together, in one thread."""

    def __init__(self, requests: list[Request[Any, Any]], lock: threading.Lock) -> None:
        self.requests = requests
        self.has_turn = threading.Condition(lock)
        self.wants_turn = not self.first.work.long
        """False while it plans"""

    @property
    def first(self) -> Request[Any, Any]:
        return self.requests[0]

    @property
    def cancelled(self) -> bool:
        return all(request.progress.cancelled for request in self.requests)


def models_key(run: Run) -> str:
    """What identifies the models of a run in memory."""
    return run.manifest.checksum or run.manifest.fingerprint
