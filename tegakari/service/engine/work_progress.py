"""Progress of work in the model queue: written by the thread that runs models, read by the event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from tegakari.schemas.progress import CancelledWorkError


class WorkProgress:
    """Steps of one request's work, and whether it is cancelled. Implements `tegakari.schemas.progress.Progress`.

    The work writes it between its steps. Any thread may read `done` and `total`, or cancel.
    """

    def __init__(self) -> None:
        self.done = 0
        """finished steps of the current stage"""
        self.total: int | None = None
        """steps of the current stage; None before the first stage, or if not known"""
        self.loading = False
        """whether the models that the work needs are being loaded"""
        self.between_steps: Callable[[], object] | None = None
        """called after each step, in the thread of the work"""
        self._cancelled = threading.Event()

    def stage(self, name: str, total: int | None = None, *, done: int = 0) -> None:
        """Begin a stage; a request has no place for its name."""
        self._record(done, total)
        self.check()

    def advance(self, steps: int = 1) -> None:
        """Count finished steps of the stage."""
        self._record(self.done + steps, self.total)
        self.check()

    def note(self, text: str) -> None:
        """Drop the text: a request has no place for it."""

    def check(self) -> None:
        """Stop the work if it is cancelled; otherwise let other work have its turn.

        Raises:
            CancelledWorkError: the work is cancelled.
        """
        if self.cancelled:
            raise CancelledWorkError
        if self.between_steps:
            self.between_steps()
            if self.cancelled:
                raise CancelledWorkError

    def cancel(self) -> None:
        """End the work at its next step."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def record_loading(self, loading: bool) -> None:
        """Say whether the models are being loaded."""
        self.loading = loading

    def _record(self, done: int, total: int | None) -> None:
        self.done, self.total = done, total


class BatchProgress(WorkProgress):
    """Progress of work that several requests share; it is cancelled once all of them are."""

    def __init__(self, members: Sequence[WorkProgress]) -> None:
        super().__init__()
        self._members = members

    @property
    def cancelled(self) -> bool:
        return all(member.cancelled for member in self._members)

    def _record(self, done: int, total: int | None) -> None:
        super()._record(done, total)
        for member in self._members:
            member.done, member.total = done, total

    def record_loading(self, loading: bool) -> None:
        super().record_loading(loading)
        for member in self._members:
            member.record_loading(loading)
