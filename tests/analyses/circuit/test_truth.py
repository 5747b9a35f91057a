"""The short form of `make bench-truth circuits`: bounds that a wrong formula misses."""

from __future__ import annotations

import pytest

from benchmarks.truth.circuits import ablation_coverage, same_circuits, synthetic_coverage


@pytest.mark.parametrize("case", ["each document in many pairs", "noise of pairs alone"])
def test_intervals_cover(case: str):
    """Resampled pairs cover 52 to 75 % of the first case, unscaled samples 100 % of the second."""
    for row in synthetic_coverage(seeds=40, cases=[case]):
        assert 0.86 <= row.value <= 0.99, row


def test_intervals_of_sufficiency_and_necessity_cover():
    for row in ablation_coverage(200):
        assert row.value >= 0.9, row


def test_float32_and_bfloat16_give_the_same_robust_circuit():
    (row,) = (row for row in same_circuits(2) if row.case == "robust, effects in float32")
    assert row.value == 1
