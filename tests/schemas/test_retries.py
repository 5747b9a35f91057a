"""Pauses before a request is repeated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tegakari.schemas.retries import FIRST_PAUSE, LONGEST_PAUSE, pause, requested_pause


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), (" 0 ", 0), (None, None), ("", None), ("-1", None), ("1.5", None), ("soon", None), ("9" * 20, None)],
)
def test_seconds_of_a_header(header: str | None, seconds: float | None):
    assert requested_pause(header) == seconds


def test_a_date_is_a_pause_until_then():
    soon = datetime.now(UTC) + timedelta(seconds=20)
    assert requested_pause(format_datetime(soon, usegmt=True)) == pytest.approx(20, abs=2)
    assert requested_pause("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_pauses_grow_and_end():
    assert pause(0, "5") == 5
    assert pause(0, "500") == LONGEST_PAUSE
    assert pause(3, "500", longest=100) == 100
    for attempt in range(20):
        longest = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
        assert longest / 2 <= pause(attempt, None) <= longest
