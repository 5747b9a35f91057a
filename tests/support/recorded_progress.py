"""Progress that records what it is told."""

from __future__ import annotations


class RecordedProgress:
    """Records every step of every stage; subclasses override `step` to end the work."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.steps: list[tuple[int, int | None]] = []
        """(done, total) at the start of a stage and after each advance"""

    def stage(self, name: str, total: int | None = None, *, done: int = 0) -> None:
        self.stages.append(name)
        self.step(done, total)

    def advance(self, steps: int = 1) -> None:
        done, total = self.steps[-1]
        self.step(done + steps, total)

    def note(self, text: str) -> None:
        pass

    def step(self, done: int, total: int | None) -> None:
        self.steps.append((done, total))
