"""Fills of the residual buffer, and their batches."""

from __future__ import annotations

import numpy as np
import torch

from tegakari.indexer.training.saes.fills import batches_of, plan_fills


def test_fills_hold_every_document_once_per_epoch_within_bounds():
    positions = np.random.default_rng(0).integers(1, 50, 200).tolist()
    fills = plan_fills(positions, epochs=3, buffer_positions=400, batch_size=32, seed=5)
    assert fills == plan_fills(positions, epochs=3, buffer_positions=400, batch_size=32, seed=5)
    for epoch in range(3):
        epoch_fills = [fill for fill in fills if fill.epoch == epoch]
        assert sorted(document for fill in epoch_fills for document in fill.documents) == list(range(200))
        assert all(sum(positions[d] for d in fill.documents) <= 400 for fill in epoch_fills)
    assert fills[0].documents != next(fill for fill in fills if fill.epoch == 1).documents
    total = sum(positions[document] for document in fills[0].documents)
    rows = torch.arange(total) * 2
    batches = batches_of(fills[0], rows, seed=5)
    assert sorted(torch.cat(batches).tolist()) == rows.tolist()
    assert {len(batch) for batch in batches} <= set(range(20, 50))
    assert not torch.equal(batches[0], batches[0].sort().values)


def test_a_document_longer_than_the_buffer_is_a_fill_by_itself():
    fills = plan_fills([5, 100, 5], epochs=1, buffer_positions=20, batch_size=32, seed=0)
    assert sorted(fill.documents for fill in fills) in ([[0], [1], [2]], [[0, 2], [1]])
