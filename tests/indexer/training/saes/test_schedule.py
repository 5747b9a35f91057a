"""Learning rate and share of the L1 penalty of the steps."""

from __future__ import annotations

import pytest

from tegakari.indexer.training.saes.schedule import Schedule
from tegakari.schemas.config import SaesConfig


def test_schedule():
    schedule = Schedule(SaesConfig(learning_rate=0.5, l1_warmup=0.1, learning_rate_decay=0.2), 1000)
    assert [schedule.penalty(step) for step in (0, 50, 100, 999)] == [0, 0.5, 1, 1]
    assert [schedule.learning_rate(step) for step in (0, 800, 900, 999)] == pytest.approx([0.5, 0.5, 0.25, 0.0025])
    flat = Schedule(SaesConfig(learning_rate=0.5, l1_warmup=0, learning_rate_decay=0), 1000)
    assert (flat.penalty(0), flat.learning_rate(999)) == (1, 0.5)
