"""Membership, totals, shares and warnings, from effects whose right values are known."""

from __future__ import annotations

import numpy as np
import pytest

from tegakari.analyses.circuit.effects import Effects, mean_of_ratios, ratio_of_means
from tegakari.analyses.circuit.outcome import component_effects, layer_bands, members, ratio_warning, total_effect
from tegakari.schemas.circuit import CircuitSettings
from tegakari.store.queries.pairs import Pairs

SETTINGS = CircuitSettings()


def effects_of_pairs(ratio: list[float], noise: float, gain: np.ndarray) -> tuple[Effects, Pairs]:
    """Effects of three layers with these ratios [attention, MLP, attention, ...] and noise between documents."""
    generator, n = np.random.default_rng(0), len(gain)
    pairs = Pairs(generator.permutation(n), n + generator.permutation(n), np.ones(n, np.float32), n, 2 * n)
    ratios = np.array(ratio).reshape(1, 3, 2) + noise * generator.normal(size=(n, 3, 2))
    return Effects(ratios * gain[:, None, None], gain, spread=1.0), pairs


def test_a_component_of_uncertain_effect_is_in_the_circuit_of_the_study_alone():
    effects, pairs = effects_of_pairs([0.5, 0.0, 0.02, -0.3, 0.05, 0.2], 0.2, np.full(100, 2.0))
    components = component_effects(effects, pairs, SETTINGS)
    assert [row.in_robust_circuit for row in components] == [True, False, False, False, False, True]
    study = [row.in_study_circuit for row in components]
    assert study == (effects.ratios.mean(0) >= 0.01).ravel().tolist()
    assert sum(study) > 2
    assert members(components).ravel().tolist() == [row.in_robust_circuit for row in components]
    by_study = component_effects(effects, pairs, CircuitSettings(membership="study"))
    assert members(by_study).ravel().tolist() == study


def test_totals_and_shares_are_sums_over_the_members():
    effects, pairs = effects_of_pairs([0.5, 0.1, 0.2, 0.0, 0.1, 0.3], 0.05, np.linspace(1, 3, 80))
    in_circuit = np.array([[True, False], [True, False], [False, True]])
    for estimator in (ratio_of_means(effects, 0.25), mean_of_ratios(effects)):
        inside = estimator.effect * in_circuit
        total = total_effect(estimator, in_circuit, pairs, 0)
        assert total.value == pytest.approx(inside.sum())
        assert total.low < inside.sum() < total.high
        bands = layer_bands(estimator, in_circuit, pairs, 0)
        assert [(band.first, band.last, band.components) for band in bands] == [(0, 0, 1), (1, 1, 1), (2, 2, 1)]
        shares = [band.share.value for band in bands if band.share]
        assert shares == pytest.approx((inside.sum(1) / inside.sum()).tolist())
    assert all(band.share is None for band in layer_bands(estimator, np.zeros((3, 2), bool), pairs, 0))
    assert total_effect(estimator, np.zeros((3, 2), bool), pairs, 0).value == 0


def test_a_pair_that_decides_a_mean_of_ratios_is_reported():
    gain = np.full(200, 2.0)
    effects, pairs = effects_of_pairs([0.3, 0.0, 0.0, 0.0, 0.0, 0.0], 0.01, gain)
    assert ratio_warning(effects, component_effects(effects, pairs, SETTINGS), SETTINGS) is None
    gain[:3] = 0.02, -0.01, 3e-3
    change = effects.change.copy()
    change[2, 1, 1] = 0.9
    unstable = Effects(change, gain, spread=1.0)
    components = component_effects(unstable, pairs, SETTINGS)
    assert [row.in_study_circuit and not row.in_robust_circuit for row in components].count(True) >= 1
    warning = ratio_warning(unstable, components, SETTINGS)
    assert warning
    assert "moves the mean of a component by 1.5" in warning  # 0.9 / 0.003 / 200
    assert "3 of 200 pairs (1.5%)" in warning
