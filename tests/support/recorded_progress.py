"""Progress that records the stages and steps that work reports."""

from __future__ import annotations

from collections.abc import Callable


class RecordedProgress:
    """Records every step of every stage; subclasses override `step` to end the work."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.steps: list[tuple[int, int | None]] = []
        """(done, total) at the start of a stage and after each advance"""
        self.ends: dict[str, tuple[int, int | None]] = {}
        """the last (done, total) of each stage, by name"""
        self.notes: list[str] = []

    def stage(self, name: str, total: int | None = None, *, done: int = 0) -> None:
        self.stages.append(name)
        self.step(done, total)

    def advance(self, steps: int = 1) -> None:
        done, total = self.steps[-1]
        self.step(done + steps, total)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, done: int, total: int | None) -> None:
        self.steps.append((done, total))
        self.ends[self.stages[-1]] = (done, total)


class ActingProgress(RecordedProgress):
    """Calls a function when a stage has a number of finished steps."""

    def __init__(self, stage: str, done: int, act: Callable[[], object]) -> None:
        """Watch one stage.

        Args:
            stage: name of the stage.
            done: finished steps at which `act` is called; 0: when the stage begins.
            act: may raise, to end the work.
        """
        super().__init__()
        self._stage = stage
        self._done = done
        self._act = act

    def step(self, done: int, total: int | None) -> None:
        super().step(done, total)
        if self.stages[-1] == self._stage and done == self._done:
            self._act()
