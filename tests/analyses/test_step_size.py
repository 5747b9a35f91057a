"""Passes as large as a step may take, by the measured time of blocks and SAEs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tegakari.analyses import inference
from tegakari.analyses.engine import step_size
from tegakari.analyses.engine.batches import BATCH_TOKENS
from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.engine.step_size import MIN_POSITIONS, with_short_steps
from tegakari.models.rerun.ablate_features import GPU_POSITIONS_PER_PASS


def test_every_block_and_sae_is_measured(models: RunModels):
    seconds = step_size._seconds_of_steps(models, 3, 24)
    assert len(seconds) == models.classifier.layers + 2 * len(models.saes)
    assert all(second > 0 for second in seconds)


@pytest.mark.parametrize(
    ("seconds_per_token", "positions"),
    [(1e-9, GPU_POSITIONS_PER_PASS), (0.1 / 1024, 1024), (0.1 / 1000, 512), (1, MIN_POSITIONS)],
)
def test_a_pass_has_the_largest_power_of_two_that_fits(
    models: RunModels, monkeypatch: pytest.MonkeyPatch, seconds_per_token: float, positions: int
):
    def steps(_models: RunModels, documents: int, length: int) -> list[float]:
        interrupted = next(passes)  # a pass that another process interrupts does not count
        return [0.0, seconds_per_token * documents * length * (100 if interrupted else 1)]

    passes = iter([True, False, True, True])
    monkeypatch.setattr(step_size, "_seconds_of_steps", steps)
    short = with_short_steps(models)
    assert short.max_positions == positions
    assert short.batch_tokens == min(positions, BATCH_TOKENS)
    assert models.batch_tokens == BATCH_TOKENS


def test_small_batches_change_no_result(models: RunModels):
    texts = [f"今日は軽トラ {number}" for number in range(20)]
    large, small = (
        inference.classify_texts(replace(models, max_positions=positions), texts) for positions in (None, 30)
    )
    assert [text.predicted for text in large] == [text.predicted for text in small]
    for one, other in zip(large, small, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-5)
