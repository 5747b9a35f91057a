"""The arithmetic of a bill, against figures that were computed by hand."""

from __future__ import annotations

import pytest

from benchmarks.bill import Rates, Run, bill
from benchmarks.scale import fit


def test_a_bill_by_hand():
    """1,000 documents of 10 tokens, 2 layers of 100 features, 10 labels; round rates."""
    run = Run(1000, 10, 2, 100, 10, 5, 4, 8, shard_documents=100)
    rates = Rates(
        forward_tokens_per_s=1000, encode_s=1e-5, index_over_device=2, load_s=6, activation_s=0.36, byte_s=0,
        label_feature_s=0, label_row_s=0.036, top_token_s=0, explain_feature_s=0.018, explain_token_s=0, gpu_hour=3,
    )  # fmt: skip
    result = bill(run, 4, cores=1, rates=rates)
    device = 10_000 / 1000 + 10_000 * 200 * 1e-5  # 30 s
    assert result.device_hours == pytest.approx(device / 3600)
    assert result.shard_hours == pytest.approx((6 + 2 * 30 / 4) / 3600)
    assert result.layer_hours == pytest.approx(1)  # 10,000 activations
    assert result.table_hours == pytest.approx(0.02)  # 2,000 rows
    assert result.explain_hours == pytest.approx(0.001)  # 200 features
    rest = 1.021
    assert result.dollars == pytest.approx(3 * (4 * 21 / 3600 + rest))
    assert result.held_dollars == pytest.approx(3 * 4 * (21 / 3600 + rest))
    # A shard of 100 documents has those of 1.99 labels, of 100 documents each, on average.
    sums, offsets = 10 * 1.99 * 200 * 60, 10 * 200 * 24
    work = sums + offsets + 10_000 * 8 + 1000 * 8 * 4 + 2000 * 48 + 1000 * 2 * 160
    assert result.work_gigabytes == pytest.approx(work / 1e9)


def test_the_study_takes_what_was_measured():
    """1,536 documents of 164 tokens and 9,216 features on one GPU: 18.3 s in the stage `encode`."""
    measured = Run(documents=1536, tokens=164, features=9216, labels=4)
    assert bill(measured, 1).shard_hours * 3600 == pytest.approx(12.5 + 18.3, rel=0.02)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.5])
def test_a_law_is_found(exponent: float):
    law = fit([64, 128, 256, 512], [3 * size**exponent for size in (64, 128, 256, 512)])
    assert law == pytest.approx((3, exponent, exponent))
