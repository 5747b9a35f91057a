"""Rises, onsets and strengths of tokens, on activations made by hand."""

from __future__ import annotations

import numpy as np

from tegakari.analyses.attribution.onset import onsets, rises, strengths

ACTIVATIONS = np.array(
    # a feature that stays, one that rises twice, one that is active at first, one of equal rises, one that is silent
    [
        [0.0, 0.0, 4.0, 1.0, 0.0],
        [3.0, 1.0, 2.0, 0.0, 0.0],
        [3.5, 0.5, 4.0, 1.0, 0.0],
        [3.5, 4.5, 0.0, 0.0, 0.0],
    ],
    np.float32,
)


def test_a_rise_is_what_an_activation_gains_over_the_position_before():
    expected = [
        [0.0, 0.0, 4.0, 1.0, 0.0],
        [3.0, 1.0, 0.0, 0.0, 0.0],
        [0.5, 0.0, 2.0, 1.0, 0.0],
        [0.0, 4.0, 0.0, 0.0, 0.0],
    ]
    np.testing.assert_array_equal(rises(ACTIVATIONS), expected)


def test_the_onset_is_the_largest_rise_and_not_the_largest_activation():
    assert onsets(ACTIVATIONS).tolist() == [1, 3, 0, 0, 0]
    assert ACTIVATIONS[:, 0].argmax() != 1


def test_strengths_share_what_each_feature_loses_over_its_rises():
    strength = strengths(ACTIVATIONS, np.array([2.0, 1.0, -5.0, 0.0, 9.0]))
    # Feature 0 loses 2 over rises of 3 and 0.5, feature 1 loses 1 over 1 and 4; what gains or is silent takes no part.
    expected = np.array([0.0, 2 * 3 / 3.5 + 1 / 5, 2 * 0.5 / 3.5, 4 / 5]) / 3
    np.testing.assert_allclose(strength, expected)
    assert strengths(ACTIVATIONS, np.full(5, -1.0)).tolist() == [0, 0, 0, 0]
