"""Progress of long work: one protocol for the indexer, trainings, analyses and the service.

Work reports stages and steps; the caller decides how they are shown: bars on a terminal, lines in a log, numbers of a
job, or not at all. The same object tells the work to stop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

OnStep = Callable[[], object]
"""Called by long work between two short steps: a place to end it with an exception, or to let other work run."""


def no_step() -> None:
    """The work goes on."""


class CancelledWorkError(Exception):
    """Raised inside work by `Progress.advance` when its result is no longer needed. Never shown to users."""


class Progress(Protocol):
    """Receiver of the progress of long work."""

    def stage(self, name: str, total: int | None = None, *, done: int = 0) -> None:
        """Begin the next stage.

        Args:
            name: name of the stage, for people: "training", "layer 3".
            total: steps of the stage; None: unknown.
            done: steps that an earlier attempt finished.

        Raises:
            CancelledWorkError: to end the work here.
        """
        ...

    def advance(self, steps: int = 1) -> None:
        """Report finished steps of the current stage; 0 of a long step shows that the work goes on.

        Raises:
            CancelledWorkError: to end the work here.
        """
        ...

    def note(self, text: str) -> None:
        """Show a short text beside the current stage, such as the training loss; an empty one removes it."""
        ...


class NoProgress:
    """Discards progress and never cancels."""

    def stage(self, name: str, total: int | None = None, *, done: int = 0) -> None:
        pass

    def advance(self, steps: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass
