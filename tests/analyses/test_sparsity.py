"""Sparsity agrees with plain Python on the activations of a run."""

from __future__ import annotations

import numpy as np
import pytest

from tegakari.analyses.sparsity import sparsity
from tegakari.store import Run
from tests.support.factories import Case


def test_sparsity_agrees_with_the_activations(random_run: tuple[Run, Case]):
    run, case = random_run
    result = sparsity(run)
    assert result.pooling == run.manifest.pooling
    means = []
    for layer, row in enumerate(result.layers):
        pooled = case.pooled(layer, run.manifest.pooling)
        assert row.active.value == pytest.approx((pooled > 0).sum(1).mean())
        mass, top = pooled.sum(1), np.sort(pooled, 1)[:, -20:].sum(1)
        ratios = top[mass > 0] / mass[mass > 0]
        assert row.silent == int((mass == 0).sum())
        assert row.top20_ratio
        assert row.top20_ratio.value == pytest.approx(ratios.mean(), rel=1e-3)
        activations = np.concatenate(case.activations[layer])
        assert row.per_position == pytest.approx((activations > 0).sum(1).mean())
        means.append(row.active.value)
    assert result.active.value == pytest.approx(np.mean(means))
    assert result.active_of_all_layers == pytest.approx(np.sum(means))
