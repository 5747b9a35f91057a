"""Tables for people and JSON for programs on stdout; progress, logs and errors on stderr."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import rich.progress
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from tegakari.cli.table_layout import table_layout, wrap
from tegakari.cli.visible import visible
from tegakari.schemas.api import Page
from tegakari.schemas.errors import TegakariError
from tegakari.schemas.progress import Progress

T = TypeVar("T")

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys instead of showing them, tab and line feed apart; those that turn the direction of
text too, because text after them appears to be elsewhere."""


def printable(text: str) -> str:
    """Text from data, with a replacement character for each character that a terminal would obey."""
    return _CONTROLS.sub("\ufffd", text)


class DataConsole(Console):
    """Prints data of others: colours are its own, control characters of the data are replaced."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Segments of what is printed, as in the base class."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


out = DataConsole()
err = DataConsole(stderr=True)

LINE_SECONDS = 30.0
"""Minimum time between two lines of progress within a stage, where stderr is not a terminal."""


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
    """Progress of a command on stderr: bars on a terminal, else plain lines, so that a log shows a long job at work."""
    if not err.is_terminal:
        yield _Lines()
        return
    bars = rich.progress.Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
    )
    with bars:
        stages = _Bars(bars)
        yield stages
        stages.finish()


class _Bars:
    """One bar per name of a stage, with the note after the name."""

    def __init__(self, bars: rich.progress.Progress) -> None:
        self._bars = bars
        self._ids: dict[str, TaskID] = {}
        self._name = ""

    def stage(self, name: str, total: int | None = None, *, done: int = 0) -> None:
        self.finish()
        if name not in self._ids:
            self._ids[name] = self._bars.add_task(name, total=None)
        self._name = name
        self._bars.tasks[self._ids[name]].total = total  # `update` ignores None
        self._bars.update(self._ids[name], description=name, completed=done)

    def advance(self, steps: int = 1) -> None:
        self._bars.advance(self._ids[self._name], steps)

    def note(self, text: str) -> None:
        self._bars.update(self._ids[self._name], description=f"{self._name}, {text}" if text else self._name)

    def finish(self) -> None:
        """Complete the bar of a stage whose total was not known before its end."""
        if self._name:
            task = self._bars.tasks[self._ids[self._name]]
            if task.total is None:
                self._bars.update(task.id, total=task.completed)


class _Lines:
    """One line at the start of each stage, then at most one per `LINE_SECONDS`."""

    def __init__(self) -> None:
        self._name = ""
        self._total: int | None = None
        self._done = 0
        self._note = ""
        self._written = 0.0

    def stage(self, name: str, total: int | None = None, *, done: int = 0) -> None:
        self._name, self._total, self._done, self._note = name, total, done, ""
        self._write()

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        if time.monotonic() - self._written >= LINE_SECONDS:
            self._write()

    def note(self, text: str) -> None:
        self._note = text

    def _write(self) -> None:
        of_total = "" if self._total is None else f" of {self._total:,}"
        note = f", {self._note}" if self._note else ""
        sys.stderr.write(f"{self._name}: {self._done:,}{of_total}{note}\n")
        sys.stderr.flush()
        self._written = time.monotonic()


def print_json(value: Any) -> None:
    """One JSON document on stdout; characters that a terminal obeys are escaped, which changes no value."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    sys.stdout.write(_CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n")


def page_of(rows: Sequence[T]) -> Page[T]:
    """A whole list as JSON has it: the envelope of the API."""
    return Page(list(rows))


def print_list(
    rows: Sequence[T],
    columns: Mapping[str, str | Callable[[T], object]] | Sequence[str],
    *,
    title: str,
    json: bool,
    csv: Path | None = None,
    document: object = None,
    drop: Sequence[str] = (),
) -> None:
    """Rows on stdout: JSON for programs, else a table; and in a CSV file.

    Args:
        rows: the rows.
        columns: heading -> attribute of a row, or a function of it; or attributes, whose names are the headings.
        title: of the table.
        json: whether to print JSON.
        csv: file that gets all fields of the rows; None: none.
        document: what the JSON is, where it is more than the rows; None: a page with all rows.
        drop: headings of the columns that a narrow terminal leaves out first, in this order.
    """
    if csv:
        write_csv(csv, rows)
    if json:
        print_json(page_of(rows) if document is None else document)
        return
    if not isinstance(columns, Mapping):
        columns = {name.replace("_", " "): name for name in columns}
    cells = [attrgetter(column) if isinstance(column, str) else column for column in columns.values()]
    table = [[_name(heading, cell(row)) for heading, cell in zip(columns, cells, strict=True)] for row in rows]
    print_table(title, list(columns), table, drop=drop)


def _name(heading: str, value: object) -> object:
    """A value, where it is the number of a layer or a feature as text: 9215, not 9,215."""
    return str(value) if heading in ("layer", "feature") else value


def width() -> int | None:
    """Cells of a line of stdout; None in a pipe, where nothing is shortened or broken."""
    return out.width if out.is_terminal else None


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, drop: Sequence[str] = ()
) -> None:
    """A table on stdout: numbers at the right, texts shortened to the width of a terminal; whole in a pipe.

    Args:
        title: a line above the table; empty: none.
        columns: the headings.
        rows: a value per column.
        drop: headings of the columns that a narrow terminal leaves out first, in this order; then from the right.
    """
    cells = width()
    if title:
        print_text(title, style="bold")
    layout = table_layout(columns, rows, cells, drop)
    for line in layout.lines:
        _print_line(line, out)
    if layout.left_out:
        left_out = "; ".join(layout.left_out)
        print_text(f"… without {left_out}: a wider terminal, a pipe or --json shows them", style="dim")


def print_text(text: str, *, style: str = "", console: Console | None = None) -> None:
    """A sentence, broken between words on a terminal, on one line in a pipe.

    Args:
        text: the sentence.
        style: of rich.
        console: `out` or `err`; None: `out`.
    """
    console = console or out
    text = visible(text)
    for line in wrap(text, console.width, indent="  ") if console.is_terminal else [text]:
        _print_line(Text(line, style), console)


def print_cut(shown: int, total: int | None, options: str) -> None:
    """What a list leaves out, on stdout: `… 12 of 240 rows; --all shows more`.

    Args:
        shown: rows of the list.
        total: rows that there are; None: more, and not counted.
        options: what shows more of them.
    """
    of_total = f"{shown:,} rows, and there are more" if total is None else f"{shown:,} of {total:,} rows"
    print_text(f"… {of_total}; {options}", style="dim")


def _print_line(line: Text, console: Console) -> None:
    console.print(line, soft_wrap=True, highlight=False)


def write_csv(path: Path, rows: Sequence[Any]) -> None:
    """Write structs of one type to the file of a `--csv` option, nested fields as JSON."""
    from tegakari.extras import extras_named

    with extras_named("store"):
        from tegakari.store.export.arrow import rows_table
        from tegakari.store.export.formats import format_of, write
    with path.open("wb") as sink:
        if rows:
            write(sink, rows_table(rows, type(rows[0])).to_reader(), format_of(path))
    print_written(path)


def print_written(path: Path) -> None:
    """That a file was written, on stderr: stdout has the table or the JSON."""
    print_text(f"wrote {path}", console=err)


def print_error(error: TegakariError) -> None:
    """An error on stderr: field, message, and fix."""
    field = f"{error.field}: " if error.field else ""
    print_text(f"error: {field}{error.message}", style="red", console=err)
    if error.fix:
        print_text(f"  fix: {error.fix}", console=err)
