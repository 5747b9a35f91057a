"""Batches as large as a step may take, by the measured time of blocks and SAEs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tegakari.analyses import inference
from tegakari.analyses.engine import step_size
from tegakari.analyses.engine.batches import BATCH_TOKENS
from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.engine.step_size import MIN_BATCH_TOKENS, with_short_steps


def test_every_block_and_sae_is_measured(models: RunModels):
    seconds = step_size._seconds_of_steps(models, 24)
    assert len(seconds) == models.classifier.layers + 2 * len(models.saes)
    assert all(second > 0 for second in seconds)


@pytest.mark.parametrize(
    ("seconds_per_token", "batch_tokens"),
    [(1e-9, BATCH_TOKENS), (0.1 / 1024, 1024), (0.1 / 1000, 512), (1, MIN_BATCH_TOKENS)],
)
def test_batches_are_the_largest_power_of_two_that_fits(
    models: RunModels, monkeypatch: pytest.MonkeyPatch, seconds_per_token: float, batch_tokens: int
):
    def steps(_models: RunModels, tokens: int) -> list[float]:
        interrupted = next(passes)  # a pass that another process interrupts does not count
        return [0.0, seconds_per_token * tokens * (100 if interrupted else 1)]

    passes = iter([True, False, True, True])
    monkeypatch.setattr(step_size, "_seconds_of_steps", steps)
    assert with_short_steps(models).batch_tokens == batch_tokens


def test_small_batches_change_no_result(models: RunModels):
    texts = [f"今日は軽トラ {number}" for number in range(20)]
    large, small = (
        inference.classify_texts(replace(models, batch_tokens=batch_tokens), texts) for batch_tokens in (4096, 30)
    )
    assert [text.predicted for text in large] == [text.predicted for text in small]
    for one, other in zip(large, small, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-5)
