"""Pauses between the attempts of a request: what the server says, else exponential backoff with jitter."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0
"""seconds"""


def pause(attempt: int, retry_after: str | None, *, longest: float = LONGEST_PAUSE) -> float:
    """Seconds until the next attempt.

    Args:
        attempt: number of attempts that failed before this one.
        retry_after: header Retry-After of the response: seconds, or a date (RFC 9110); None: there is none.
        longest: maximum.
    """
    seconds = requested_pause(retry_after)
    if seconds is not None:
        return min(seconds, longest)
    return min(FIRST_PAUSE * 2**attempt, longest) * random.uniform(0.5, 1)


def requested_pause(retry_after: str | None) -> float | None:
    """Seconds that a header Retry-After asks for; None: it is missing or damaged."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
