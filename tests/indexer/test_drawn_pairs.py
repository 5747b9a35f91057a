"""Drawn pairs on every path against priorities in Python's integers."""

from __future__ import annotations

import pytest
import torch

from tegakari.indexer.drawn_pairs import drawn_pairs
from tegakari.indexer.priority import NEVER, feature_seeds
from tegakari.kernels import dispatch
from tests.support.kernel_cases import DEVICE, needs_triton
from tests.support.plain_contexts import pair_priority

FEATURES, DOCUMENTS = 701, [0, 1, 25, 2**26 - 1]
"""More features than a program of the kernel has, and the largest number of a document."""


@pytest.mark.parametrize("path", ["torch", "triton"])
def test_pairs_within_their_bound_are_drawn(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEGAKARI_KERNELS", path)
    dispatch._path_for.cache_clear()
    if path == "triton":
        needs_triton()
    layer = 3
    pairs = [[pair_priority(layer, feature, document) for feature in range(FEATURES)] for document in DOCUMENTS]
    priorities = [[hashed << 26 | document for hashed, document in row] for row in pairs]
    # The bound of a feature is one of its priorities: equality is drawn, too.
    bound = [NEVER if feature % 7 == 0 else priorities[feature % 4][feature] for feature in range(FEATURES)]
    seeds = feature_seeds(layer, torch.arange(FEATURES, device=DEVICE))
    numbers = torch.tensor(DOCUMENTS, device=DEVICE)
    drawn = drawn_pairs(seeds, numbers, torch.tensor(bound, device=DEVICE))
    assert drawn.tolist() == [[p <= b for p, b in zip(row, bound, strict=True)] for row in priorities]
    assert 0.3 < drawn.float().mean() < 0.8
    dispatch._path_for.cache_clear()
