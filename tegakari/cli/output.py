"""Tables for people and JSON for programs on stdout; progress, logs and errors on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

out = Console()
err = Console(stderr=True)


def set_up_logging() -> None:
    """Events as plain lines on stderr; libraries only when they warn.

    Does nothing where structlog is not installed: nothing that logs can be imported there.
    """
    try:
        import structlog
    except ModuleNotFoundError:
        return
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        # The stream of the moment: whoever runs a command inside a program may have put another in its place.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


@contextmanager
def progress() -> Iterator[Progress]:
    """Bars on stderr; nothing where stderr is not a terminal."""
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
    )
    with bars:
        yield bars


class Stages:
    """Progress of an analysis as bars, one bar per name of a stage."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._task = TaskID(-1)

    def stage(self, name: str, total: int | None = None, *, done: int = 0) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=None)
        self._task = self._tasks[name]
        self._bars.update(self._task, completed=done, total=total)

    def advance(self, steps: int = 1) -> None:
        self._bars.advance(self._task, steps)

    def note(self, text: str) -> None:
        self._bars.update(self._task, description=text)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; numbers are right-aligned, text is shown as it is."""
    table = Table(title=escape(title), title_justify="left", header_style="bold")
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [all(number for _, number in column) for column in zip(*cells, strict=True)] or [False] * len(columns)
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in cells:
        table.add_row(*(text for text, _ in row))
    out.print(table)


def _cell(value: object) -> tuple[str, bool]:
    match value:
        case None:
            return "-", True
        case bool():
            return ("yes" if value else "no"), False
        case int():
            return f"{value:,}", True
        case float():
            return f"{value:.3f}", True
        case list():
            return escape(" ".join(map(str, value))), False
        case _:
            return escape(str(value).replace("\n", "⏎")), False
