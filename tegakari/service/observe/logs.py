"""Logs: one line per event on stderr, for people or as JSON. No line contains a query's text, a body or a key."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from tegakari.schemas.config import LogFormat

log = structlog.get_logger("tegakari.requests")


def set_up_logs(form: LogFormat) -> None:
    """Send events to stderr in the form that the configuration names; of libraries, warnings and errors only."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s", force=True)
    shared: list[Any] = [structlog.processors.add_log_level]
    if form == "json":
        processors = [
            *shared,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ]
    else:
        processors = [
            *shared,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ]
    structlog.configure(
        processors=processors,
        # sys.stderr at the time of the event: a program that runs a command in-process may have replaced it.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
