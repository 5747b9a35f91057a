"""Logs: one line per event on stderr, for people or as JSON. No line contains a query's text, a body or a key."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from tegakari.schemas.config import LogFormat

log = structlog.get_logger("tegakari.requests")

_LINE_BREAKS_AND_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters of texts of others that would forge a line, or control the terminal that shows it."""


def set_up_logs(form: LogFormat) -> None:
    """Send events to stderr in the form that the configuration names; of libraries, warnings and errors only."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s", force=True)
    shared: list[Any] = [structlog.processors.add_log_level]
    if form == "json":
        processors = [
            *shared,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Without the values of variables, which hold texts, bodies and keys.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ]
    else:
        processors = [
            *shared,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
            _escape_controls,
        ]
    structlog.configure(
        processors=processors,
        # sys.stderr at the time of the event: a program that runs a command in-process may have replaced it.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _escape_controls(_: object, __: str, line: str) -> str:
    """A line of text without control characters; the renderer has escaped line feeds only."""
    return _LINE_BREAKS_AND_CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", line)
