"""Changes, gains and the estimators of an effect, against sums in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tegakari.analyses.circuit.effects import Effects, mean_of_ratios, patch_changes, ratio_of_means


def test_changes_by_hand():
    clean, corrupted = torch.tensor([[3.0, 0], [1, 0], [1, 5]]), torch.tensor([[1.0, 0], [1, 0], [2, 0]])
    patched = torch.tensor([[[[2.0, 9], [0.5, 9]]], [[[7.0, 9], [1, 9]]], [[[9.0, 9], [9, 9]]]])
    change, gain = patch_changes(clean, corrupted, patched, torch.tensor([0, 0, 0]))
    assert change.tolist() == [[[1, -0.5]], [[6, 0]], [[7, 7]]]
    assert gain.tolist() == [2, 0, -1]
    effects = Effects(change.numpy(), gain.numpy(), spread=1.0)
    assert effects.ratios.tolist() == [[[0.5, -0.25]], [[0, 0]], [[0, 0]]]  # no gain, and a negative one: no effect


def test_the_estimators_agree_with_sums_in_plain_python():
    generator = np.random.default_rng(0)
    change, gain = generator.normal(size=(50, 3, 2)), generator.normal(1.5, 1, 50)
    effects = Effects(change, gain, spread=2.0)
    assert (gain < 0).any()
    for min_gain in (0.0, 0.25, 0.6):
        robust = ratio_of_means(effects, min_gain)
        for layer in range(3):
            for component in range(2):
                numerator = denominator = ratios = 0.0
                for pair in range(50):
                    if gain[pair] >= 1e-6:
                        ratios += change[pair, layer, component] / gain[pair]
                        if gain[pair] >= min_gain * 2.0:
                            numerator += change[pair, layer, component]
                            denominator += gain[pair]
                assert robust.effect[layer, component] == pytest.approx(numerator / denominator)
                assert mean_of_ratios(effects).effect[layer, component] == pytest.approx(ratios / 50)


def test_one_tiny_gain_moves_the_mean_of_ratios_and_not_the_ratio_of_means():
    change, gain = np.full((200, 1, 2), 0.2), np.full(200, 2.0)
    gain[7] = 1e-4
    effects = Effects(change, gain, spread=1.0)
    assert ratio_of_means(effects, 0.25).effect == pytest.approx(0.1)
    assert mean_of_ratios(effects).effect == pytest.approx(10.1, rel=0.01)
