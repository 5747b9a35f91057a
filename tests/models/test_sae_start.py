"""Initial directions of SAEs: reproducible, and different for every classifier, seed and layer."""

from __future__ import annotations

import numpy as np

from tegakari.models.sae_start import start_directions, start_seed


def test_classifier_seed_and_layer_decide_the_start():
    seeds = {start_seed(seed, sha, layer) for seed in range(3) for sha in ("aa", "ab") for layer in range(3)}
    assert len(seeds) == 18
    assert start_seed(0, "aa", 1) == start_seed(0, "aa", 1)
    assert all(0 <= seed < 2**48 for seed in seeds)


def test_directions_have_norm_1_and_no_preferred_direction():
    directions = start_directions(start_seed(0, "aa", 0), 4000, 16)
    assert directions.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(directions.T @ directions * 16 / 4000, np.eye(16), atol=0.12)
    np.testing.assert_array_equal(directions, start_directions(start_seed(0, "aa", 0), 4000, 16))
    other = start_directions(start_seed(0, "ab", 0), 4000, 16)
    assert abs((directions * other).sum(1).mean()) < 0.02
