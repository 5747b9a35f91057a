"""The order by d, with ties, against Python's sort."""

from __future__ import annotations

from math import isnan

import numpy as np

from tegakari.store.blocks.files import descending_order


def test_equal_d_go_by_active_documents_then_mean_then_index():
    generator = np.random.default_rng(0)
    d = generator.choice(np.array([1.5, 1.25, 0, -0.5, np.nan], np.float32), 200)
    documents_active = generator.integers(0, 4, 200).astype(np.uint8)
    mean = generator.choice(np.array([0.5, 0.25], np.float32), 200)

    def key(index: int) -> tuple[float, ...]:
        if isnan(d[index]):
            return 1, index
        return 0, -float(d[index]), -int(documents_active[index]), -float(mean[index]), index

    assert descending_order(d, documents_active, mean).tolist() == sorted(range(200), key=key)


def test_a_rare_feature_is_behind_a_frequent_one_of_equal_d():
    d = np.array([2.5, 1.63, 1.63, 1.63], np.float32)
    assert descending_order(d, np.array([9, 1, 1, 4]), np.array([1, 0.2, 0.3, 0.1])).tolist() == [0, 3, 2, 1]
