"""Learning rate and L1 penalty of the steps."""

from __future__ import annotations

import pytest

from tegakari.indexer.training.saes.schedule import Schedule
from tegakari.schemas.config import SaesConfig


def test_schedule():
    schedule = Schedule(SaesConfig(l1_coefficient=2.0, learning_rate=0.5, l1_warmup=0.1, learning_rate_decay=0.2), 1000)
    assert [schedule.l1(step) for step in (0, 50, 100, 999)] == [0, 1, 2, 2]
    assert [schedule.learning_rate(step) for step in (0, 800, 900, 999)] == pytest.approx([0.5, 0.5, 0.25, 0.0025])
    flat = Schedule(SaesConfig(l1_coefficient=2.0, learning_rate=0.5, l1_warmup=0, learning_rate_decay=0), 1000)
    assert (flat.l1(0), flat.learning_rate(999)) == (2.0, 0.5)
